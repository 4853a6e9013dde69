"""One process at a time brings a pack; downloads take minutes, so the others wait and say so."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path

from facechain import disk
from facechain.protocols import Tick

POLL_SECONDS = 0.1


def locked(path: Path, stage: str, tick: Tick) -> AbstractContextManager[None]:
    """Waits as long as it takes, unless `tick` raises."""
    return disk.locked(path, math.inf, POLL_SECONDS, lambda: tick(f"{stage}: waiting for another process", 0, 0))
