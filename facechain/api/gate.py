"""Who gets in, decided before a byte of the body is read: the Host header, the Origin, the token.

A page on the web can make a browser talk to a server on this machine. Such a request names the page's own host
(DNS rebinding) or comes from a foreign origin; both are turned away, token or not. Tokens are for /v1; the browser
app, mounted beside it, has sessions of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facechain.api.errors import refusal

OPEN = "/v1/health"  # without a token; it tells nothing of anybody
ANY = "*"  # a name that admits every Host, for servers behind a proxy that checks it
_HEADER_BYTES = 64_000  # the parser's own limit lets pass what arrives in one piece
_READ_ONLY = ("GET", "HEAD", "OPTIONS")


class Gate:
    """`who` gives the owner of a token; `closed` says whether tokens are asked for at all.

    `names` are what the server may be called besides localhost and addresses in digits.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        who: Callable[[str], str | None],
        closed: Callable[[], bool],
        names: tuple[str, ...],
        json_bytes: int,
        file_bytes: int,
    ) -> None:
        self._app = app
        self._who = who
        self._closed = closed
        self._json_bytes, self._file_bytes = json_bytes, file_bytes
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        if refused := self._refused(scope):
            if scope["type"] == "websocket":
                return await _close(receive, send)
            return await refused(scope, receive, send)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
            await send(message)

        return await self._app(scope, receive, send_marked)

    def _refused(self, scope: Scope) -> Response | None:
        """None when the request may pass; under /v1, `scope["state"]["owner"]` then says for whom."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
            return refusal(
                400, "The request's headers are too long.", "Send what is long as the body.", "HeadersTooLong"
            )
        headers = Headers(scope=scope)
        method, path = scope.get("method", "GET"), scope["path"]
        if not self._is_ours(headers.get("host", "")):
            return refusal(
                400,
                f"This server is not called {headers.get('host', '')!r}.",
                "Start it with --name for every name it is reached by.",
                error="UnknownHost",
            )
        if (method not in _READ_ONLY or scope["type"] == "websocket") and _is_foreign(headers):
            return refusal(403, "Another web site sent this request.", "Use the pages of this server.", "ForeignOrigin")
        if not path.startswith("/v1"):
            return None
        token = _token(headers)
        owner = self._who(token) if self._closed() else ""
        if owner is None and path != OPEN:
            return refusal(401, "This token opens nothing here.", error="TokenUnknown") if token else refusal(401)
        # What is announced is refused here, in our words; what was not is counted as it comes in.
        most = self._file_bytes if "multipart/" in headers.get("content-type", "") else self._json_bytes
        if (length := headers.get("content-length", "")).isdecimal() and int(length[:20]) > most:
            return refusal(413)
        scope.setdefault("state", {})["owner"] = owner
        return None

    def _is_ours(self, host: str) -> bool:
        """Addresses in digits cannot be rebound; names only when they are known."""
        name = urlsplit(f"//{host}").hostname if _is_plain(host) else None
        if ANY in self._names:
            return True
        if not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self._names
        return True


def _is_plain(host: str) -> bool:
    try:
        _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return not set(host) & set("/?#@\\ ")


def _is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _token(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def _close(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1008})
