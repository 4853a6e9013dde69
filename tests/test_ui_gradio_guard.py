"""Gradio's routes on a live server with two users: no file is followed, no large body read, no stream another's."""

import asyncio
import json

import gradio as gr
import httpx
import pytest
from api_kit import serving

from facechain import bootstrap
from facechain.ui.gradio_guard import MAX_BODY_BYTES, Claims, GuardedBlocks

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """ann's and ben's."""
    from facechain.api.app import create_app
    from facechain.ui.app import mount
    from facechain.ui.sessions import Sessions

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACECHAIN_WORKSPACE", str(tmp_path_factory.mktemp("guard")))
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        bootstrap.studio.cache_clear()
        users = bootstrap.users()
        headers = [{"Authorization": f"Bearer {users.add(name, name)}"} for name in ("ann", "ben")]
        app = mount(create_app(), Sessions(who=users.who, closed=lambda: True))
        with serving(app) as address:
            yield [httpx.Client(base_url=address, timeout=30, headers=given) for given in headers]
    bootstrap.studio.cache_clear()


def _file(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


ROUTES = ["run/job", "api/job", "call/job", "call/v2/job", "queue/join", "cancel", "reset"]


@pytest.mark.parametrize("base", ["/gradio_api", "/zh/gradio_api"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_file_argument_is_refused_wherever_it_is(clients, tmp_path, base, route):
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    for file in (_file(secret), _file("/dev/zero"), _file("http://127.0.0.1:1/x"), {"_type": "gradio.FileData"}):
        for nested in ([file], [[{"a": [file]}]], [{"value": file}]):
            body = {"data": nested, "id": nested, "fn_index": 0, "session_hash": "s", "event_id": "e"}
            assert clients[0].post(f"{base}/{route}", json=body).status_code == 403
            odd = json.dumps(body).encode("utf-16")  # which Gradio understands
            assert clients[0].post(f"{base}/{route}", content=odd, headers=JSON).status_code == 403


def test_blocks_refuse_a_file_that_came_past_the_gate(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")

    def echo(id: str) -> str:
        return id

    with GuardedBlocks() as blocks:
        gr.api(echo)
    (function,) = blocks.fns.values()
    for file in (_file(secret), _file("http://127.0.0.1:1/x")):
        with pytest.raises(gr.Error, match="Files cannot be named"):
            asyncio.run(blocks.process_api(function, [[file]]))
    assert not list((tmp_path / "gradio").rglob("*.txt"))
    assert asyncio.run(blocks.process_api(function, ["word"]))["data"] == ["word"]


@pytest.mark.parametrize(
    "path",
    [
        "file=/etc/passwd",
        "file/etc/passwd",
        "proxy=http://elsewhere",
        "upload_progress?upload_id=1",
        "deep_link?session_hash=s",
        "stream/s/1/1/playlist.m3u8",
        "custom_component/1/client/a/b.js",
        "dev/reload",
        "runs",
        "vibe-code",
    ],
)
def test_routes_of_gradio_that_no_page_needs_are_closed(clients, path):
    for base in ("/gradio_api", "/zh/gradio_api"):
        assert clients[0].get(f"{base}/{path}").status_code == 404
    for path in (
        "/gradio_api/upload",
        "/gradio_api/component_server",
        "/gradio_api/stream/0",
        "/zh/login",
        "/monitoring",
    ):
        assert clients[0].post(path, files={"files": b"x"}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/v1/people", 405),
        ("BREW", "/v1/people", 405),
        ("POST", "/v1/health", 405),
        ("PATCH", "/docs", 405),
        ("GET", "/v1/none", 404),
        ("BREW", "/v1/none", 404),
        ("PUT", "/v1", 404),
        ("GET", "/none", 404),
        ("BREW", "/gradio_api/queue/join", 404),
    ],
)
def test_what_is_not_there_is_refused_in_one_form(clients, method, path, status):
    answer = clients[0].request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "what", "next_step"}
    assert ("allow" in answer.headers) == (status == 405)


def test_pages_and_their_parts_are_served(clients):
    for path in ("/", "/zh/", "/config", "/zh/config", "/gradio_api/info", "/theme.css", "/favicon.ico"):
        assert clients[0].get(path).status_code == 200, path
    assert clients[0].post("/gradio_api/run/people", json={"data": []}).json()["data"] == [[]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"data": ["' + b"x" * MAX_BODY_BYTES + b'"]}', 413),
        (b'{"data": ' + b"[" * 100 + b"]" * 100 + b"}", 413),
        (b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"data": [' + b"[]," * 20_000 + b"0]}", 413),
        (b"[]", 400),
        (b"", 400),
        (b"\xff", 400),
    ],
    ids=["long", "deep", "too deep to parse", "many values", "an array", "nothing", "not text"],
)
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_unreasonable_size_is_refused(clients, body, status, announced):
    content = body if announced else iter([body[:100], body[100:]])
    assert clients[0].post("/gradio_api/run/people", content=content, headers=JSON).status_code == status


def test_a_session_and_its_events_are_for_whoever_began_it(clients):
    ann, ben = clients
    job = next(d["id"] for d in ann.get("/config").json()["dependencies"] if d["api_name"] == "people")
    asked = {"data": [], "fn_index": job, "session_hash": "anns"}
    event = ann.post("/gradio_api/queue/join", json=asked).json()["event_id"]
    called = ann.post("/gradio_api/call/people", json={"data": []}).json()["event_id"]
    end = {"session_hash": "bens", "fn_index": job, "event_id": event}
    for refused in (
        ben.get("/gradio_api/queue/data", params={"session_hash": "anns"}),
        ben.get("/zh/gradio_api/queue/data", params={"session_hash": "anns"}),
        ben.get("/gradio_api/queue/data?session_hash=bens2&session_hash=anns"),
        ben.post("/gradio_api/queue/join", json=asked),
        ben.post("/gradio_api/cancel", json=end),
        ben.get("/gradio_api/heartbeat/anns"),
        ben.get(f"/gradio_api/call/people/{called}"),
        ben.get(f"/gradio_api/call/v2/people/{called}"),
        ben.get("/gradio_api/call/people/anns"),  # Gradio takes a session for an event
        ben.post("/gradio_api/run/people", json={"data": [], "session_hash": ["anns"]}),
    ):
        assert (refused.status_code, refused.json()["what"]) == (404, "There is no such session.")
    assert "process_completed" in ann.get("/gradio_api/queue/data", params={"session_hash": "anns"}).text
    assert "complete" in ann.get(f"/gradio_api/call/people/{called}").text


def test_claims_are_kept_while_they_are_used():
    claims = Claims(most=2)
    assert claims.claim("a", "ann")
    assert claims.claim("b", "ben")
    assert claims.claim("a", "ann")
    assert claims.claim("c", "ben")  # the least recently used one, "b", is dropped
    assert not claims.claim("a", "ben")
    assert claims.claim("b", "ann")
