"""Several devices: a worker process for each, which sees no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence


def run(devices: Sequence[str], options: Sequence[str]) -> None:
    """Starts a worker a device and stays until all have left; what stops us stops them."""
    base = [sys.executable, "-m", "facechain", "jobs", "work", *options]
    workers = [subprocess.Popen([*base, "--device", device], env=only(device)) for device in devices]

    def pass_on(number: int, _: object) -> None:
        for worker in workers:
            worker.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    for worker in workers:
        worker.wait()


def only(device: str) -> dict[str, str]:
    """Our environment, showing just this device: "cuda-1" is the second accelerator torch sees here."""
    kind, _, number = device.partition("-")
    if kind != "cuda":
        return dict(os.environ)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    ids = visible.split(",") if visible else [str(at) for at in range(int(number) + 1)]
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ids[int(number)]}
