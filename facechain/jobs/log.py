"""What workers write down: ids, kinds and states, never what a job is about. A few small files a device."""

from __future__ import annotations

import logging
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path

from facechain import disk

LOG_BYTES = 1_000_000
KEPT = 3  # files, besides the one that is written

log = logging.getLogger("facechain.jobs")


class _Formatter(logging.Formatter):
    """Of an exception only where it was raised: its message may hold a name, a path or a prompt."""

    def formatException(self, ei) -> str:  # noqa: N802 - logging's own name
        kind, _, at = ei
        return f"{''.join(traceback.format_tb(at))}{kind.__name__ if kind else ''}"


class _Private(RotatingFileHandler):
    def _open(self):
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=disk.private_open)


def write_to(folder: Path, device: str) -> None:
    """From now on this process logs to `<folder>/worker-<device>.log`, which no other process does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "worker.log").unlink(missing_ok=True)  # an earlier version's, with names
    file = folder / f"worker-{disk.plain(device)}.log"
    handler = _Private(file, maxBytes=LOG_BYTES, backupCount=KEPT, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
