"""The accelerators of this machine."""

from __future__ import annotations

import shutil
import sys


def accelerators() -> tuple[str, ...]:
    """ "cuda-0", "cuda-1", … as torch sees them, or "mps"; empty on a machine with a processor only."""
    if sys.platform != "darwin" and not shutil.which("nvidia-smi") and not shutil.which("rocm-smi"):
        return ()  # seconds are saved by not asking torch
    import torch

    if torch.cuda.is_available():
        return tuple(f"cuda-{number}" for number in range(torch.cuda.device_count()))
    return ("mps",) if torch.backends.mps.is_available() else ()
