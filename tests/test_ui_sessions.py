"""Who gets in, and what nobody gets: the gate in front of the pages, with a stand-in behind it."""

import asyncio
import os
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from facechain.api import errors
from facechain.people.names import slug
from facechain.ui import login
from facechain.ui.sessions import COOKIE, GUEST_S, OWNER, Gate, Sessions, sweep_guests

TOKENS = {"fc_ada": "ada", "fc_bob": "bob"}


def _sessions(*, closed=True, guests=False):
    return Sessions(who=TOKENS.get, closed=lambda: closed, guests=guests)


def _ask(sessions, path, *, cookie="", bearer="", method="GET", kind="http"):
    """Status, headers and whose request the page behind the gate saw ("nobody asked" when it saw none)."""
    seen, sent = ["nobody asked"], []

    async def page(scope, receive, send):
        seen[0] = scope[OWNER]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    headers = [(b"cookie", f"{COOKIE}={cookie}".encode())] if cookie else []
    headers += [(b"authorization", f"Bearer {bearer}".encode())] if bearer else []
    scope = {"type": kind, "path": path, "method": method, "headers": headers, "scheme": "https"}
    asyncio.run(Gate(page, sessions)(scope, receive, send))
    start = sent[0]
    named = {name.decode(): value.decode() for name, value in start.get("headers", [])}
    return start.get("status", start.get("code")), named, seen[0]


def test_at_this_machine_nobody_signs_in():
    status, headers, owner = _ask(_sessions(closed=False), "/")
    assert (status, owner) == (200, "")
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/zh/"])
def test_pages_lead_to_the_sign_in(path):
    status, headers, owner = _ask(_sessions(), path)
    assert (status, headers["location"], owner) == (303, "/login", "nobody asked")


@pytest.mark.parametrize("path", ["/config", "/pictures/photo/ada/1", "/export", "/uploads/0", "/gradio_api/run/job"])
def test_all_else_is_closed_to_strangers(path):
    assert _ask(_sessions(), path)[::2] == (401, "nobody asked")
    assert _ask(_sessions(), path, cookie="guessed", bearer="fc_wrong")[::2] == (401, "nobody asked")


def test_a_session_is_its_owners_until_the_token_is_taken_back_or_they_sign_out():
    tokens = dict(TOKENS)
    sessions = Sessions(who=tokens.get, closed=lambda: True)
    ada, bob = sessions.log_in("fc_ada", ""), sessions.log_in("fc_bob", "")
    assert ada
    assert bob
    assert ada != bob
    assert _ask(sessions, "/", cookie=ada)[2] == "ada"
    assert _ask(sessions, "/config", cookie=bob)[2] == "bob"
    assert _ask(sessions, "/config", bearer="fc_ada")[2] == "ada"
    del tokens["fc_ada"]
    assert _ask(sessions, "/config", cookie=ada)[0] == 401
    sessions.log_out(bob)
    assert _ask(sessions, "/config", cookie=bob)[0] == 401


def test_wrong_tokens_slow_down_their_own_address_and_never_a_right_token():
    sessions = _sessions()
    app = FastAPI()
    app.include_router(login.router(sessions))

    def log_in(token, address):
        client = TestClient(app, client=(address, 1), follow_redirects=False)
        return client.post("/login", data={"token": token}).status_code

    assert [log_in("fc_guess", "192.0.2.1") for _ in range(11)] == [401] * 10 + [429]
    assert log_in("fc_guess", "192.0.2.2") == 401
    assert log_in("fc_ada", "192.0.2.1") == 303


def test_who_breaks_off_signing_in_leaves_no_trace_in_the_log(caplog):
    app = FastAPI()
    errors.install(app)
    app.include_router(login.router(_sessions()))
    left = [{"type": "http.request", "body": b"token=", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return left.pop(0)

    async def send(message):
        pass

    scope = {"type": "http", "method": "POST", "path": "/login", "headers": [], "query_string": b"", "scheme": "http"}
    asyncio.run(app({**scope, "client": None, "server": None}, receive, send))
    assert caplog.records == []


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_behind_tls_a_cookie_is_sent_over_tls_alone(scheme, secure):
    app = FastAPI()
    app.include_router(login.router(_sessions()))
    client = TestClient(app, base_url=f"{scheme}://testserver", follow_redirects=False)
    for answer in (client.post("/login", data={"token": "fc_ada"}), client.get("/logout")):
        assert ("; Secure" in answer.headers["set-cookie"]) == secure


def test_there_are_no_websockets():
    status, _, owner = _ask(_sessions(closed=False), "/", kind="websocket")
    assert (status, owner) == (1008, "nobody asked")


def test_every_guest_is_somebody_else():
    sessions = _sessions(guests=True)
    status, headers, one = _ask(sessions, "/")
    _, _, other = _ask(sessions, "/")
    assert status == 200
    assert one.startswith("guest-")
    assert other.startswith("guest-")
    assert one != other
    cookie = headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert "HttpOnly" in headers["set-cookie"]
    assert _ask(sessions, "/config", cookie=cookie)[2] == one
    assert slug(one) == one  # names a workspace
    assert _ask(sessions, "/config")[0] == 401  # a page comes first
    assert _ask(sessions, "/config", bearer="fc_ada")[0] == 401  # guests have no tokens


def test_guests_who_left_are_forgotten_and_users_are_not(tmp_path):
    old = time.time() - 7 * 3600
    for name in ("guest-old", "guest-new", "guest-looks", "guest-left", "ada"):
        (tmp_path / name / "people").mkdir(parents=True)
        if name not in ("guest-new", "guest-left"):
            for path in (tmp_path / name / "people", tmp_path / name):
                os.utime(path, (old, old))
    away_s = {"guest-looks": 1.0, "guest-left": 7 * 3600.0}  # what a guest only looks at has no new time
    assert sorted(sweep_guests(tmp_path, away_s.get)) == ["guest-left", "guest-old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ada", "guest-looks", "guest-new"]


def test_a_guest_is_away_since_their_last_request():
    sessions = _sessions(guests=True)
    session = sessions.guest()
    guest = sessions.owner(session)
    assert sessions.away_s(guest) < GUEST_S
    assert sessions.away_s("guest-unknown") is None
