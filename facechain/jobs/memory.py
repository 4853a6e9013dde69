"""How much memory is left, and giving back what is not needed."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

LOW_BYTES = 1 << 30
_GROUP = Path("/sys/fs/cgroup")


def free_bytes() -> int | None:
    """What the system, or the container we are in, can still give; None where it does not say."""
    left: list[int] = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        left.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))))
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        left.append(int((_GROUP / "memory.max").read_text()) - int((_GROUP / "memory.current").read_text()))
    return min(left, default=None)


def is_short() -> bool:
    free = free_bytes()
    return free is not None and free < LOW_BYTES


def give_back() -> None:
    """What was freed goes back to the system, and to the accelerator when torch is in use."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
