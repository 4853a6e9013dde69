"""A Ray node on this machine that nobody outside it can reach, without a dashboard and without usage statistics."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from facechain.errors import FaceChainError

LOOPBACK = "127.0.0.1"
STORE_BYTES = 256 << 20  # of shared memory
UP_SECONDS = 180.0  # a busy machine takes a while


def keep_private() -> None:
    """For this process and those it starts; to be called before Ray is imported.

    Without the second, named after the systems where it is so by default, Ray takes the machine's outer address even
    where loopback is asked for. Whoever finds the ports on this machine needs the token.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextlib.contextmanager
def node() -> Iterator[str]:
    """The address of a cluster of one node, this machine.

    It goes when the block is left, and when we are killed. Raises FaceChainError when it does not come up.
    """
    keep_private()
    home = Path(tempfile.mkdtemp(prefix="facechain-ray-"))
    # Given ports: where they are left open, Ray gives its own helpers 15 seconds to choose some, and up.
    ports = free_ports(5)
    address = f"{LOOPBACK}:{ports[0]}"
    names = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export")
    given = [f"--{name}-port={port}" for name, port in zip(names, ports[1:], strict=True)]
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--port={ports[0]}", f"--temp-dir={home}"),
        *(f"--node-ip-address={LOOPBACK}", "--include-dashboard=false", "--include-log-monitor=false", *given),
        *(f"--num-cpus={_cores()}", f"--object-store-memory={STORE_BYTES}"),
    ]
    with (home / "start.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_us if sys.platform == "linux" else None,
        )
    try:
        _await(process, address, home / "start.log")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started is in its group
        shutil.rmtree(home, ignore_errors=True)


def _await(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Until the node says that it runs."""
    end = time.monotonic() + UP_SECONDS
    while b"Ray runtime started" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text("utf-8", "replace").strip().splitlines()
            raise FaceChainError(f"A Ray node at {address} did not start: {' '.join(said[-1:])}", "Try again.")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _die_with_us() -> None:
    """The node ends when we do, however we end."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
