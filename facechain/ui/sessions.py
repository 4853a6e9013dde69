"""Who is asking, and what nobody may ask.

Three ways to run: for whoever sits at this machine (no login), for users with tokens, and for guests, where every
browser gets a workspace of its own that is deleted some hours later (a hosted Space). A session is a random cookie
whose meaning only this process knows.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable
from enum import StrEnum
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

COOKIE = "facechain_session"
IDLE_S = 12 * 3600.0
GUEST_S = 6 * 3600.0  # a guest's people and portraits are deleted this long after their last visit
MAX_TRIES = 10  # wrong tokens a minute from one address
OWNER = "facechain.owner"  # where a request carries it

_OPEN = ("/login", "/health", "/v1", "/static/", "/assets/", "/theme.css", "/favicon.ico", "/manifest.json")


class Mode(StrEnum):
    LOCAL = "local"
    USERS = "users"
    GUESTS = "guests"


class Sessions:
    """`who` says whose token it is, `closed` whether tokens are asked for at all, `guests` whether anybody may come.

    One process, so a dictionary is enough; a restart asks to log in again.
    """

    def __init__(self, *, who: Callable[[str], str | None], closed: Callable[[], bool], guests: bool = False) -> None:
        self._who = who
        self._closed = closed
        self.guests = guests
        self._tokens: dict[str, tuple[str, float]] = {}  # session → token (or guest), last seen; longest ago first
        self._failures: deque[tuple[float, str]] = deque(maxlen=10_000)  # when, from which address

    @property
    def mode(self) -> Mode:
        if self.guests:
            return Mode.GUESTS
        return Mode.USERS if self._closed() else Mode.LOCAL

    def log_in(self, token: str, address: str) -> str | None:
        """A new session for a right token; a wrong one counts against the address it came from."""
        if self._who(token) is None:
            self._failures.append((time.monotonic(), address))
            return None
        return self._new(token)

    def guest(self) -> str:
        return self._new(f"guest-{secrets.token_hex(12)}")

    def log_out(self, session: str) -> None:
        self._tokens.pop(session, None)

    def too_many_tries(self, address: str) -> bool:
        """Whether more than `MAX_TRIES` wrong tokens came from there within a minute."""
        while self._failures and time.monotonic() - self._failures[0][0] > 60:
            self._failures.popleft()
        return sum(source == address for _, source in self._failures) > MAX_TRIES

    def owner(self, session: str) -> str | None:
        """Whose session it is; None when it is nobody's, has lapsed, or the token was taken back since."""
        if self.mode is Mode.LOCAL:
            return ""
        token, seen = self._tokens.get(session, ("", 0.0))
        if not token or time.monotonic() - seen > IDLE_S:
            self._tokens.pop(session, None)
            return None
        owner = token if self.guests else self._who(token)
        if owner is not None:
            del self._tokens[session]
            self._tokens[session] = (token, time.monotonic())
        return owner

    def away_s(self, guest: str) -> float | None:
        """Seconds since a guest's last request; None for one who is not known, as after a restart."""
        seen = [seen for token, seen in list(self._tokens.values()) if token == guest]
        return time.monotonic() - max(seen) if seen else None

    def bearer(self, token: str) -> str | None:
        """The owner of a token that scripts send with each request."""
        return self._who(token) if token and self.mode is Mode.USERS else None

    def cookie(self, session: str, scheme: str, age_s: float = IDLE_S) -> str:
        """For a request that came by `scheme`, "http" or "https".

        A hosting site shows the guests' page inside its own, so that their cookie must cross sites.
        """
        where = "SameSite=Strict; Secure" if scheme == "https" else "SameSite=Strict"
        where = "SameSite=None; Secure; Partitioned" if self.guests else where
        return f"{COOKIE}={session}; Path=/; HttpOnly; {where}; Max-Age={int(age_s)}"

    def _new(self, token: str) -> str:
        while self._tokens and time.monotonic() - next(iter(self._tokens.values()))[1] > IDLE_S:
            del self._tokens[next(iter(self._tokens))]
        session = secrets.token_urlsafe(32)
        self._tokens[session] = (token, time.monotonic())
        return session


class Gate:
    """ASGI: the session's owner, and headers that keep a page to itself."""

    def __init__(self, app: Any, sessions: Sessions) -> None:
        self.app = app
        self.sessions = sessions

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no page of ours needs a websocket
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        path, headers = scope["path"], dict(scope["headers"])
        cookie = _cookie(headers.get(b"cookie", b"").decode("latin-1"))
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        owner, fresh = self.sessions.owner(cookie), ""
        if owner is None and kind.lower() == "bearer":
            owner = self.sessions.bearer(token.strip())
        if owner is None and self.sessions.mode is Mode.GUESTS and scope["method"] == "GET" and is_page(path):
            fresh = self.sessions.guest()
            owner = self.sessions.owner(fresh)
        if owner is None and not path.startswith(_OPEN):
            if is_page(path):
                return await _plain(send, 303, "", [(b"location", b"/login")])
            return await _plain(send, 401, "Log in first.")
        scope = {**scope, OWNER: owner}
        extra = [(b"set-cookie", self.sessions.cookie(fresh, scope["scheme"]).encode())] if fresh else []
        await self.app(scope, receive, self._guarded(send, extra))

    def _guarded(self, send: Callable[[Any], Awaitable[None]], extra: list[tuple[bytes, bytes]]) -> Any:
        ancestors = "" if self.sessions.guests else "; frame-ancestors 'none'"
        policy = (
            "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; object-src 'none'; base-uri 'self'; "
            f"form-action 'self'{ancestors}"
        )
        ours = {
            b"content-security-policy": policy.encode(),
            b"x-content-type-options": b"nosniff",
            b"referrer-policy": b"same-origin",  # without any, a form would be sent as if from a stranger's page
        }

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                theirs = [(n, v) for n, v in message["headers"] if n.lower() != b"referrer-policy"]
                named = {name.lower() for name, _ in theirs}
                added = [(name, value) for name, value in ours.items() if name not in named]
                message = {**message, "headers": [*theirs, *added, *extra]}
            await send(message)

        return guarded


def is_page(path: str) -> bool:
    return path.rstrip("/") in ("", "/zh")


def sweep_guests(users: Path, away_s: Callable[[str], float | None], older_than_s: float = GUEST_S) -> list[str]:
    """Deletes workspaces of guests who have been away; returns whose.

    `away_s` says for how long; where it does not know, the folder's own time counts.
    """
    gone = []
    for home in users.glob("guest-*") if users.is_dir() else ():
        away = away_s(home.name)
        if away is None:
            away = time.time() - max(path.stat().st_mtime for path in (home, *home.glob("*")))
        if away > older_than_s:
            shutil.rmtree(home, ignore_errors=True)
            gone.append(home.name)
    return gone


def hosted() -> bool:
    """Whether this is a hosted Space, where strangers share one server."""
    return bool(os.environ.get("SPACE_ID"))


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


async def _plain(send: Any, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = text.encode()
    sent = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*sent, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})
