"""The server around the application: who may reach it, its workers, its housekeeping, and a clean end."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from facechain import bootstrap
from facechain.errors import FaceChainError, UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOK_S = 5.0  # between looks whether workers live
SWEEP_S = 60.0
GRACE_S = 3  # for requests that run when the server is told to stop; watched jobs would never end
WORKER_NICE = 10  # so that who only looks is answered while the processors are busy painting
LEAVE_S = 30.0  # for workers to put their work back into the queue

_log = logging.getLogger("facechain.api")


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_open(host: str, auth: bool = False) -> None:
    """Raises UserError for a server that anybody in the network could use without a token, or nobody at all."""
    if bootstrap.users().list():
        return
    if auth:
        raise UserError("Nobody has a token, so nobody could come in.", "Give one out first: facechain users add NAME")
    if not is_local(host):
        raise UserError(
            f"A server at {host} can be reached from other machines, and nobody has a token yet.",
            "Give one out first: facechain users add NAME. Or leave --host out, for this machine alone.",
        )


def bind(host: str, port: int) -> socket.socket:
    """The socket to listen on; port 0 takes any that is free. Raises UserError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)  # from here on whoever comes waits instead of being turned away
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(f"Cannot listen at {host}, port {port}: {error}.", "Take another with --port, or 0.") from None
    return listener


def address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(*, host: str, port: int, names: tuple[str, ...], auth: bool, workers: bool, say: Callable[[str], None]) -> None:
    """The API alone, until stopped. Raises UserError when strangers could come in, or the port is taken."""
    from facechain.api.app import create_app

    check_open(host, auth)
    listener = bind(host, port)
    app = create_app(local=is_local(host) and not auth, names=(*names, socket.gethostname()))
    serve(app, listener, workers=workers, say=say)


def serve(app: FastAPI, listener: socket.socket, *, workers: bool, say: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM. `workers`: starts some when none live, and again when they have died."""
    import uvicorn

    from facechain.api.connections import Connection, allow_connections

    allow_connections()
    # uvicorn raises the signal anew when it has shut down; by then it has had its effect.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        http=Connection,  # on h11: the other parser takes headers of any length
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    gc.collect()
    gc.freeze()  # what is loaded by now stays: searching it for garbage would stop every request for a while
    with _helped(workers, say):
        say(f"FaceChain is at {address(listener)}  (API: /docs). Ctrl-C stops it.")
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _helped(workers: bool, say: Callable[[str], None]) -> Iterator[None]:
    """With workers and housekeeping in the background."""
    from facechain.api import incoming  # not above: whoever only binds a socket need not wait for it

    stop = threading.Event()
    started: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        if not (started and started[-1].poll() is None) and (child := bootstrap.start_workers()):
            started[:] = [child]
            with contextlib.suppress(AttributeError, OSError):  # not on Windows
                os.setpriority(os.PRIO_PROCESS, child.pid, WORKER_NICE)

    def keep(task: Callable[[], None], every_s: float) -> None:
        while not stop.is_set():
            try:
                task()
            except FaceChainError as error:  # a full disk, say: tried again
                _log.error("%s", error)
            stop.wait(every_s)

    chores = [(incoming.sweep, SWEEP_S)] + [(work, LOOK_S)] * workers
    threads = [threading.Thread(target=keep, args=chore, daemon=True) for chore in chores]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for child in started:
            _send_home(child, say)


def _send_home(child: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    child.terminate()
    try:
        child.wait(timeout=1)
        return
    except subprocess.TimeoutExpired:
        say("The workers put what they do back into the queue.")
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=LEAVE_S)
