"""Which workers live: each holds a lock file that the system frees when it dies, however it dies."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from facechain import disk
from facechain.errors import StoreError, UserError


@dataclass(frozen=True, kw_only=True)
class Worker:
    id: str
    device: str
    pid: int
    host: str
    started: float  # seconds since 1970


class Presence:
    """`folder` is the workspace; its .jobs/ holds <worker>.lock and <worker>.json, and one lock a device."""

    def __init__(self, folder: Path) -> None:
        self._workspace = folder
        self._folder = folder / ".jobs"

    @contextlib.contextmanager
    def working(self, device: str) -> Iterator[Worker]:
        """For as long as this process is the device's worker. Raises UserError when it has one already."""
        me = Worker(
            id=f"w{secrets.token_hex(6)}",
            device=device,
            pid=os.getpid(),
            host=socket.gethostname(),
            started=time.time(),
        )
        with disk.errors(self._workspace, "FACECHAIN_WORKSPACE"), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(disk.locked(self._folder / f"device-{disk.plain(device)}.lock", patience_seconds=1))
            except StoreError as error:
                raise UserError(
                    f"A worker already serves {device} in this workspace.", "See `facechain jobs list`."
                ) from error
            stack.callback(self._remove, me.id)
            stack.enter_context(disk.locked(self._folder / f"{me.id}.lock"))
            disk.write(self._folder / f"{me.id}.json", json.dumps(asdict(me)).encode())
            yield me

    def alive(self, worker: str) -> bool:
        """Whether this worker's process still runs; what a dead one left is cleared away."""
        lock = self._folder / f"{worker}.lock"
        if not worker or not lock.exists():
            return False
        try:
            with disk.locked(lock, patience_seconds=0):
                pass
        except StoreError:
            return True
        except OSError:  # not ours to touch: somebody else's process, or a read-only disk
            return True
        self._remove(worker)
        return False

    def workers(self) -> tuple[Worker, ...]:
        """Those that live."""
        found = []
        for sheet in sorted(self._folder.glob("w*.json")):
            if self.alive(sheet.stem):
                with contextlib.suppress(OSError, ValueError, TypeError):  # it left while we looked
                    found.append(Worker(**json.loads(sheet.read_bytes())))
        return tuple(found)

    def _remove(self, worker: str) -> None:
        for ending in (".json", ".lock"):
            with contextlib.suppress(OSError):
                (self._folder / f"{worker}{ending}").unlink(missing_ok=True)
