"""Who was forgotten lately, so that work begun before cannot bring them back.

Work that will store something of a person takes the workspace's `generation` when it begins. Every forgetting counts
the generation up and remembers the count under a keyed hash of the slug; what was begun at a lower count is refused.
Hashes are dropped after a week, and work older than the last one dropped is refused whoever it is about: so expiry
forgets names without opening a gap. A workspace that was removed and made anew has another id, and refuses it too.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from facechain import disk
from facechain.errors import PersonForgotten

KEPT_S = 7 * 24 * 3600.0
_MARK_BYTES = 4  # long enough to tell the people of a workspace apart


@dataclass(kw_only=True)
class _State:
    id: str
    key: str  # hex, of the hashes
    count: int = 0  # of forgettings
    expired: int = 0  # the highest count whose hash was dropped
    forgotten: dict[str, tuple[int, float]] = field(default_factory=dict)  # hash → count, seconds since 1970


class Tombstones:
    """Callers hold the workspace's lock around all but `check`. Raises OSError when the disk refuses."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def generation(self, create: bool = True) -> str:
        """What work that begins now is to be stored under. Raises ValueError when there is none yet."""
        if (state := self._read()) is None:
            if not create:
                raise ValueError("no generation yet")
            state = self._write(_State(id=secrets.token_hex(4), key=secrets.token_hex(16)))
        return f"{state.id}:{state.count}"

    def mark(self, slug: str) -> str:
        """Stands for the slug where it must not be readable, such as in names of temporary folders."""
        self.generation()
        state = self._read()
        return _hash(state, slug) if state else ""

    def add(self, slug: str) -> None:
        self.generation()
        if (state := self._read()) is None:
            return
        now = time.time()
        state.count += 1
        state.forgotten[_hash(state, slug)] = state.count, now
        for mark, (count, when) in list(state.forgotten.items()):
            if not now - KEPT_S <= when <= now:
                state.expired = max(state.expired, count)
                del state.forgotten[mark]
        self._write(state)

    def check(self, slug: str, since: str) -> None:
        """Raises PersonForgotten when they were forgotten after the generation `since`, or when nobody can tell."""
        state, (id, _, count) = self._read(), since.partition(":")
        if state is None or id != state.id or int(count) < state.expired:
            raise PersonForgotten(
                "This was begun before this workspace's last deletions, so it may be about somebody who was forgotten.",
                "Start it again.",
            )
        if state.forgotten.get(_hash(state, slug), (0, 0.0))[0] > int(count):
            raise PersonForgotten(
                f"{slug!r} was forgotten after this was started, so nothing of them is stored.",
                "If they agree to be here again, start it anew.",
            )

    def _read(self) -> _State | None:
        """None when there is none, or a damaged one: then whatever is under way is refused."""
        try:
            return _State(**json.loads(self._file.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def _write(self, state: _State) -> _State:
        part = self._file.with_name(f"{self._file.name}.part")
        disk.write(part, json.dumps(asdict(state)).encode())
        disk.move(part, self._file)
        return state


def _hash(state: _State, slug: str) -> str:
    return hashlib.blake2b(slug.encode(), key=bytes.fromhex(state.key), digest_size=_MARK_BYTES).hexdigest()
