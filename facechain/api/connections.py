"""HTTP connections that do not wait for their client forever, and only so many at once.

Without this a few hundred clients that send half a request each would take every connection the process may have.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CLIENT_TIMEOUT_S = 20.0  # for a whole request head, for each step of a body, and for reading on when an answer is long
STEP_BYTES = 16_384  # of a body within CLIENT_TIMEOUT_S, so 0.8 kB/s at least
MAX_CONNECTIONS = 1000


class Connection(H11Protocol):
    """Closed when its client is too slow; and, when there are too many connections, if it was awaited the longest.

    The server's own work is never hurried: a request that has arrived may take as long as it likes.
    """

    most = MAX_CONNECTIONS

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._awaited: object = None  # what the client owes us; None while it is the server's turn
        self._since = 0.0  # loop time of the client's last step
        self._step_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()
        if len(self.connections) > self.most:
            others = [c for c in self.connections if isinstance(c, Connection) and c.is_awaited()]
            min(others, key=lambda c: c._since)._drop()

    def data_received(self, data: bytes) -> None:
        self._step_bytes += len(data)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._awaited = None
        if self._timer:
            self._timer.cancel()

    def is_awaited(self) -> bool:
        return self._awaited is not None and not self.flow.read_paused

    def _look(self) -> None:
        """To be called whenever it may have become the client's turn or the server's."""
        theirs = self.conn.their_state
        awaited = "reading" if self.flow.write_paused else theirs if theirs in (h11.IDLE, h11.SEND_BODY) else None
        if awaited is not self._awaited or self._step_bytes >= STEP_BYTES:
            self._since, self._step_bytes = self.loop.time(), 0
        self._awaited = awaited
        if awaited is not None and self._timer is None:
            self._timer = self.loop.call_later(CLIENT_TIMEOUT_S, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._awaited is None:
            return
        if self.flow.read_paused:  # until the application takes what has arrived
            self._since = self.loop.time()
        left_s = self._since + CLIENT_TIMEOUT_S - self.loop.time()
        if left_s > 0:
            self._timer = self.loop.call_later(left_s, self._check)
        else:
            self._drop()

    def _drop(self) -> None:
        self.connections.discard(self)  # at once, so that the next one is not dropped for the same place
        self._awaited = None
        self.transport.abort()


def allow_connections() -> None:
    """Makes room for `MAX_CONNECTIONS` among the files the process may open; where it cannot, fewer are taken."""
    if sys.platform == "win32":  # has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MAX_CONNECTIONS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        Connection.most = min(MAX_CONNECTIONS, soft // 2)
