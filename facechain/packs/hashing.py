"""Bytes counted and named."""

from __future__ import annotations

import hashlib
from pathlib import Path

from facechain.protocols import Tick

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path, stage: str, tick: Tick) -> str:
    """64 hex digits."""
    total, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            tick(stage, done, total)
    return digest.hexdigest()
