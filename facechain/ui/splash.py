"""What the browser shows in the seconds until the app is loaded: one small page that asks again by itself."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>FaceChain</title>'
    '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="1">'
    "<style>body{font-family:system-ui,sans-serif;display:grid;place-content:center;text-align:center;min-height:90vh;"
    "color:#334155;background:#fff}@media(prefers-color-scheme:dark){body{color:#cbd5e1;background:#0b1220}}</style>"
    '<h1>FaceChain</h1><p role="status">Starting … · 正在启动…</p></html>'
)
# 503, so that health checks and scripts know that it is not the app yet.
_ANSWER = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\nRetry-After: 1\r\n"
    f"Cache-Control: no-store\r\nConnection: close\r\nContent-Length: {len(_PAGE.encode())}\r\n\r\n{_PAGE}"
).encode()


@contextlib.contextmanager
def shown(listener: socket.socket) -> Iterator[None]:
    """Answers whoever comes; those who come as it ends wait in line for the app."""
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            if select.select([listener], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    _reply(listener.accept()[0])

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _reply(connection: socket.socket) -> None:
    with connection:
        connection.settimeout(1)
        asked = b""
        while b"\r\n\r\n" not in asked and len(asked) < 65536:
            if not (more := connection.recv(8192)):
                return
            asked += more
        connection.sendall(_ANSWER)
