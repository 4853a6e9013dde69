"""What Gradio may be asked, checked before it reads a byte: which routes, what bodies, whose sessions and events.

Gradio follows every file reference in a body before a handler runs: it hashes and copies local files, and fetches
URLs. No page of ours takes files that way (see `pictures`), so a reference is refused here, and once more by
`GuardedBlocks` should one ever come past. Gradio also gives the event stream of a session to whoever knows its hash;
here sessions and events belong to the user who first named them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import Message, Receive, Scope, Send

from facechain.api.errors import refusal
from facechain.ui.sessions import OWNER

MAX_BODY_BYTES = 256 * 1024  # the pages' largest bodies are some kilobytes
MAX_DEPTH, MAX_VALUES = 32, 10_000  # of nested arrays and objects in a body; of all values in it
MAX_CLAIMS = 100_000
BODY_TIMEOUT_S = 20.0

_ID = r"[\w.-]{1,64}"
_NAME = r"[\w-]{1,64}"
# Every other route of Gradio is closed: /upload, /file=, /proxy=, /stream, /component_server, /deep_link …
_ROUTES = {
    "GET": (
        r"/?|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(static|assets|svelte)/.*"
        r"|/gradio_api/(info/?|app_id/?|user/?|login_check/?|startup-events|theme\.css|queue/(data|status)"
        rf"|(heartbeat|call/(v2/)?{_NAME})/(?P<id>{_ID}))"
    ),
    "POST": rf"/gradio_api/(queue/join|cancel|reset/?|(run|api|call|call/v2)/{_NAME}/?)",
}
_ROUTES["HEAD"] = _ROUTES["GET"]


class Claims:
    """Who uses an id: whoever named it first. The least recently used are dropped beyond `most`."""

    def __init__(self, most: int = MAX_CLAIMS) -> None:
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._most = most

    def claim(self, id: str, owner: str) -> bool:
        """Whether the id is this owner's, from now on if it was nobody's."""
        known = self._owners.setdefault(id, owner)
        self._owners.move_to_end(id)
        if len(self._owners) > self._most:
            self._owners.popitem(last=False)
        return known == owner


class GuardedMount(Mount):
    """In place of a mounted Gradio app's own mount; those that share sessions share `claims`.

    Paths it does not let pass are no match, so that whoever comes after it answers.
    """

    def __init__(self, mount: Mount, claims: Claims) -> None:
        super().__init__(mount.path, mount.app)
        self._claims = claims

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL and _route({**scope, **child}) else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _route(scope)
        assert route
        ids = [route.groupdict().get("id"), *parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", ())]
        if scope["method"] == "POST":
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    body = await _body(receive)
            except TimeoutError:
                return await refusal(408, "The body took too long to arrive.")(scope, receive, send)
            said = _checked(body)
            if isinstance(said, Response):
                return await said(scope, receive, send)
            ids += [said.get("session_hash"), said.get("event_id")]
            receive, send = _again(body, receive), self._claiming(send, scope[OWNER])
        for id in ids:
            if id is not None and not (_is_id(id) and self._claims.claim(id, scope[OWNER])):
                missing = refusal(404, "There is no such session.", "Open the page again.", "Missing")
                return await missing(scope, receive, send)
        return await super().handle(scope, receive, send)

    def _claiming(self, send: Send, owner: str) -> Send:
        """Notes whose event it is that Gradio answers a request with."""

        async def claiming(message: Message) -> None:
            if found := re.fullmatch(rb'\s*\{\s*"event_id"\s*:\s*"(\w+)"\s*\}\s*', message.get("body", b"")):
                self._claims.claim(found[1].decode(), owner)
            await send(message)

        return claiming


class GuardedBlocks(gr.Blocks):
    """Pages whose handlers never see a file, and for which Gradio never looks for one."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.has_launched = True  # a mounted app is never launched, and Gradio checks paths only for one that was

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **named: Any) -> Any:
        if names_file(inputs):
            raise gr.Error("Files cannot be named here.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **named)


def names_file(value: Any) -> bool:
    """Whether an object anywhere in `value` looks like a file to Gradio, in any of its versions' forms."""
    return any(
        isinstance(part, dict) and ("_type" in part or ("path" in part and "meta" in part)) for part, _ in _parts(value)
    )


def _parts(value: Any) -> Iterator[tuple[Any, int]]:
    """`value` and everything in it, with its depth; without recursion, for it may be nested as deeply as it likes."""
    left = [(value, 0)]
    while left:
        part, depth = left.pop()
        yield part, depth
        if isinstance(part, (dict, list)):
            left += [(inner, depth + 1) for inner in (part.values() if isinstance(part, dict) else part)]


def _route(scope: Scope) -> re.Match[str] | None:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return re.fullmatch(_ROUTES.get(scope["method"], "(?!)"), path) if scope["type"] == "http" else None


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(_ID, value))


async def _body(receive: Receive) -> bytes:
    """The whole body; one byte more than `MAX_BODY_BYTES` of it when it is longer."""
    body, more = b"", True
    while more and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    return body[: MAX_BODY_BYTES + 1]


def _checked(body: bytes) -> dict[str, Any] | Response:
    """What the body says, or why it is refused."""
    if len(body) > MAX_BODY_BYTES:
        return refusal(413, f"The body is longer than {MAX_BODY_BYTES // 1024} KB.")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):  # as Gradio itself reads it
        return refusal(400, "The body is not valid JSON.")
    if not isinstance(said, dict):
        return refusal(400, "The body is not a JSON object.")
    if any(depth > MAX_DEPTH or count >= MAX_VALUES for count, (_, depth) in enumerate(_parts(said))):
        return refusal(413, f"The body is nested more than {MAX_DEPTH} deep or holds over {MAX_VALUES:,} values.")
    if names_file(said):
        return refusal(403, "Files cannot be named here.", "Upload pictures on the page or through /v1.", "FileNamed")
    return said


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, then whatever comes."""
    left = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return again
