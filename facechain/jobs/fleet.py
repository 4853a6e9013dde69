"""Several devices: a worker process for each, which sees no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

LOOK_SECONDS = 0.5  # between looks whether a worker has ended


def run(devices: Sequence[str], options: Sequence[str], alone: Callable[[], bool] = lambda: False) -> None:
    """Starts a worker a device and stays until all have left; what stops us stops them.

    A worker that was killed is started again. When `alone` says that who started us is gone we leave too, whereupon
    the workers finish what waits.
    """
    base = [sys.executable, "-m", "facechain", "jobs", "work", "--with-parent", str(os.getpid()), *options]

    def start(device: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*base, "--device", device], env=only(device))

    leaving = threading.Event()
    workers = {device: start(device) for device in devices}

    def pass_on(number: int, _: object) -> None:
        leaving.set()
        for worker in list(workers.values()):
            worker.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while workers and not alone():
        for device, worker in list(workers.items()):
            ended = worker.poll()
            if ended is not None and (ended >= 0 or leaving.is_set()):
                del workers[device]
            elif ended is not None:
                workers[device] = start(device)
        time.sleep(LOOK_SECONDS)


def only(device: str) -> dict[str, str]:
    """Our environment, showing just this device: "cuda-1" is the second accelerator torch sees here."""
    kind, _, number = device.partition("-")
    if kind != "cuda":
        return dict(os.environ)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    ids = visible.split(",") if visible else [str(at) for at in range(int(number) + 1)]
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ids[int(number)]}
