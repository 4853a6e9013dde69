"""Workers as processes of their own, for tests that kill them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

COMMAND = [sys.executable, "-m", "facechain"]


def environment(workspace: Path, models: Path) -> dict[str, str]:
    wanted = {"FACECHAIN_WORKSPACE": workspace, "FACECHAIN_MODELS": models.absolute(), "FACECHAIN_OFFLINE": 1}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, **{name: str(value) for name, value in wanted.items()}}


def start(env: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, "jobs", "work", *arguments], env=env)


def kill(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


def until(true: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)
