"""/v1 over a real socket: what each door gives, to whom, and how it refuses."""

import contextlib
import json
import re
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from api_kit import file, fill, picture, serving

from facechain import bootstrap
from facechain.types import JobState

ANN_PEOPLE, ANN_PORTRAITS = ("ada", "bea", "cleo"), 5


@pytest.fixture(scope="module")
def home(tmp_path_factory, models):
    """A workspace with two users; nobody works on the jobs."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("doors")
        patch.setenv("FACECHAIN_WORKSPACE", str(folder))
        patch.setenv("FACECHAIN_MODELS", str(Path(models).absolute()))
        bootstrap.studio.cache_clear()
        fill("ann", ANN_PEOPLE, ANN_PORTRAITS)
        fill("ben", ("dora",), 1)
        yield folder
    bootstrap.studio.cache_clear()


@pytest.fixture(scope="module")
def server(home):
    from facechain.api.app import create_app

    tokens = {name: bootstrap.users().add(name, name) for name in ("ann", "ben")}
    with serving(create_app()) as address:
        yield address, tokens


@pytest.fixture(scope="module")
def nobody(server):
    with httpx.Client(base_url=server[0], timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def ann(server):
    with httpx.Client(
        base_url=server[0], timeout=30, headers={"Authorization": f"Bearer {server[1]['ann']}"}
    ) as client:
        yield client


@pytest.fixture(scope="module")
def ben(server):
    with httpx.Client(
        base_url=server[0], timeout=30, headers={"Authorization": f"Bearer {server[1]['ben']}"}
    ) as client:
        yield client


def refused(answer, status, error=""):
    """The refusal, in the vocabulary every door shares: what happened, and what to do."""
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert set(said) == {"error", "what", "next_step"}
    assert said["what"].endswith((".", "…"))
    assert said["next_step"]
    if error:
        assert said["error"] == error
    return said


def ask(client, key="", **arguments):
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/jobs", json={"kind": "make", "people": ["ada"], **arguments}, headers=headers)


# ── what is there ────────────────────────────────────────────────────────────────────────────────


def test_people_and_their_photos(ann):
    people = ann.get("/v1/people").json()["items"]
    assert [(person["slug"], person["photos"], person["held_out"]) for person in people] == [
        ("ada", 2, 1),
        ("bea", 2, 1),
        ("cleo", 2, 1),
    ]
    bea = ann.get("/v1/people/bea").json()
    assert len(bea["pictures"]) == 3
    assert bea["consent"]["purpose"] == "tests"
    assert bea == ann.get("/v1/people/bea%20").json()


def test_portraits_with_picture_and_recipe(ann):
    found = ann.get("/v1/portraits", params={"person": "ada"}).json()["items"]
    assert len(found) == ANN_PORTRAITS
    assert ann.get("/v1/portraits", params={"kept": False}).json()["items"] == []
    shown = ann.get(found[0]["picture"])
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.content.startswith(b"\x89PNG")
    assert ann.get(found[0]["recipe"]).json()["shot"]["seed"] == 7


def test_looks_engines_and_packs(ann):
    styles = ann.get("/v1/styles").json()["items"]
    assert {"astronaut", "golden_hour"} <= {style["id"] for style in styles}
    assert ann.get("/v1/styles/astronaut").json()["paints"] == "into a picture"
    engines = {engine["name"]: engine for engine in ann.get("/v1/engines").json()}
    assert (engines["template"]["state"], engines["template"]["base"]) == ("ready", "")
    assert "base of the family sdxl" in engines["pulid"]["state"]
    steps = engines["lora"]["options"]["properties"]["steps"]
    assert (steps["type"], steps["minimum"], steps["maximum"]) == ("integer", 1, 200)
    assert "rank" in engines["lora"]["training"]["properties"]
    assert engines["template"]["training"] is None
    assert ann.get("/v1/engines", params={"base": "sface"}).status_code == 200
    refused(ann.get("/v1/engines", params={"base": "/etc"}), 404)
    packs = {pack["id"]: pack for pack in ann.get("/v1/packs").json()["items"]}
    assert packs["yunet"]["present"]
    licences = ann.get("/v1/packs/licences", params={"pack": ["yunet", "sface"]}).json()
    assert licences["commercial"] == "yes"
    assert [licence["pack"] for licence in licences["packs"]] == ["yunet", "sface"]


@pytest.mark.parametrize("path", ["people", "portraits", "styles", "packs", "jobs"])
def test_lists_come_in_pages_without_gap_or_repeat(ann, path):
    if path == "jobs":
        for seed in range(3):
            assert ask(ann, seed=seed, style="astronaut").status_code == 202
    whole = ann.get(f"/v1/{path}", params={"limit": 200}).json()
    assert whole["next"] is None
    seen, cursor = [], ""
    while True:
        size = max(1, len(whole["items"]) // 3)
        page = ann.get(f"/v1/{path}", params={"limit": size, "cursor": cursor}).json()
        assert len(page["items"]) <= size
        seen += page["items"]
        if not (cursor := page["next"]):
            break
    assert seen == whole["items"]
    assert len(seen) >= 3


@pytest.mark.parametrize("cursor", ["x", "%%%", "W10", "bnVsbA", "WzFd", "é", "W1tbW1tb" * 90])
def test_cursors_that_are_not_ours(ann, cursor):
    for path in ("people", "portraits", "styles", "jobs"):
        refused(ann.get(f"/v1/{path}", params={"cursor": cursor}), 422)


def test_a_cursor_into_somebody_elses_jobs(ann, ben):
    ask(ann, style="astronaut", seed=90)
    ask(ann, style="astronaut", seed=91)
    cursor = ann.get("/v1/jobs", params={"limit": 1}).json()["next"]
    refused(ben.get("/v1/jobs", params={"cursor": cursor}), 404)


def test_photos_are_read_by_one_request_at_a_time(ann, monkeypatch):
    """Reading arrays in several threads at once has failed under load, in CPython's parser of their headers."""
    load, inside, most = np.load, [], []

    def slow(*arguments, **options):
        inside.append(None)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return load(*arguments, **options)

    monkeypatch.setattr(np, "load", slow)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ann.get("/v1/people/ada").status_code, range(8)))
    assert set(answers) == {200}
    assert set(most) == {1}


# ── who may ──────────────────────────────────────────────────────────────────────────────────────


def test_tokens(nobody, ann):
    assert nobody.get("/v1/health").status_code == 200
    said = nobody.get("/v1/people")
    refused(said, 401, "TokenMissing")
    assert said.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer fc_nothing", "Bearer é".encode("latin-1"), "Bearer " + "a" * 5000, "bearer"):
        refused(nobody.get("/v1/people", headers={"Authorization": wrong}), 401)
    assert ann.get("/v1/me").json() == {"user": "ann"}


def test_tokens_renewed_and_removed_while_the_server_runs(home, nobody):
    token = bootstrap.users().add("Guest", "guest")
    assert nobody.get("/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    bootstrap.users().remove("guest")
    refused(nobody.get("/v1/me", headers={"Authorization": f"Bearer {token}"}), 401, "TokenUnknown")


def test_nobody_sees_what_is_anothers(ann, ben):
    """Another's ids answer as unknown ones do, word for word but for the id."""
    job = ask(ann, style="astronaut").json()["id"]
    upload = ann.post("/v1/uploads", files=[("pictures", file())]).json()["upload"]
    portrait = ann.get("/v1/portraits").json()["items"][0]
    for theirs, unknown, call in [
        (job, "20260102-030405-0a1b2c", lambda id: ben.get(f"/v1/jobs/{id}")),
        (job, "20260102-030405-0a1b2c", lambda id: ben.get(f"/v1/jobs/{id}/events")),
        (job, "20260102-030405-0a1b2c", lambda id: ben.post(f"/v1/jobs/{id}/cancel")),
        (job, "20260102-030405-0a1b2c", lambda id: ben.post(f"/v1/jobs/{id}/retry")),
        (job, "20260102-030405-0a1b2c", lambda id: ben.post(f"/v1/jobs/{id}/move", json={"position": 1})),
        ("ada", "zoe", lambda slug: ben.get(f"/v1/people/{slug}")),
        ("ada", "zoe", lambda slug: ben.delete(f"/v1/people/{slug}")),
        ("ada", "zoe", lambda slug: ben.get("/v1/portraits", params={"person": slug})),
        ("ada", "zoe", lambda slug: ask(ben, people=[slug], style="astronaut")),
        (upload, "0" * 16, lambda id: ask(ben, people=["dora"], template=id)),
        (portrait["id"], "9-9999", lambda id: ben.get(f"/v1/portraits/ada/sitting/{id}/picture")),
        (portrait["id"], "9-9999", lambda id: ben.get(f"/v1/portraits/ada/sitting/{id}/recipe")),
        (portrait["id"], "9-9999", lambda id: ben.patch(f"/v1/portraits/ada/sitting/{id}", json={"kept": False})),
        (portrait["id"], "9-9999", lambda id: ben.delete(f"/v1/portraits/ada/sitting/{id}")),
    ]:
        one, other = refused(call(theirs), 404), refused(call(unknown), 404)
        assert {k: v.replace(theirs, "ID") for k, v in one.items()} == {
            k: v.replace(unknown, "ID") for k, v in other.items()
        }
    assert ann.get(portrait["picture"]).status_code == 200
    assert [person["slug"] for person in ben.get("/v1/people").json()["items"]] == ["dora"]
    assert ann.get(f"/v1/jobs/{job}").json()["state"] == "queued"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1@evil.example", ""]
)
def test_pages_of_the_web_cannot_call_under_their_own_name(nobody, host):
    refused(nobody.get("/v1/health", headers={"Host": host}), 400)


def test_pages_of_the_web_cannot_send(ann):
    for origin in ("https://evil.example", "null"):
        refused(ann.post("/v1/jobs", json={}, headers={"Origin": origin}), 403, "ForeignOrigin")
    at = str(ann.base_url).rstrip("/")
    assert ann.post("/v1/jobs", json={}, headers={"Origin": at}).status_code == 422


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_is_asked_for_watched_and_cancelled(ann):
    asked = ask(ann, style="astronaut", count=2, seed=7)
    assert asked.status_code == 202
    job = asked.json()
    assert (job["state"], job["arguments"]["seed"], job["attempt"]) == ("queued", 7, 1)
    assert job["position"] >= 1

    def cancel():
        time.sleep(0.7)
        assert ann.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200

    stopper = threading.Thread(target=cancel)
    stopper.start()
    with ann.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = list(events.iter_lines())
    stopper.join()
    named = [line.removeprefix("event: ") for line in lines if line.startswith("event:")]
    assert (named[0], named[-1]) == ("queued", "cancelled")
    last = json.loads([line for line in lines if line.startswith("data:")][-1].removeprefix("data: "))
    assert last["state"] == "cancelled"
    assert ann.post(f"/v1/jobs/{job['id']}/retry").json()["attempt"] == 2
    ann.post(f"/v1/jobs/{job['id']}/cancel")
    found = ann.get("/v1/jobs", params={"state": ["cancelled"]}).json()["items"]
    assert {job["state"] for job in found} == {"cancelled"}


def test_waiting_jobs_change_places(ann):
    first, second = (ask(ann, style="astronaut", seed=seed).json()["id"] for seed in (61, 62))
    moved = ann.post(f"/v1/jobs/{second}/move", json={"position": 1}).json()
    assert moved["position"] < ann.get(f"/v1/jobs/{first}").json()["position"]
    refused(ann.post(f"/v1/jobs/{second}/move", json={"position": 0}), 422)
    ann.post(f"/v1/jobs/{second}/cancel")
    refused(ann.post(f"/v1/jobs/{second}/move", json={"position": 1}), 409, "Conflict")


def test_a_portrait_chosen_by_hand(ann):
    fill("ann", ("joe",), 1)
    (one,) = ann.get("/v1/portraits", params={"person": "joe"}).json()["items"]
    where = one["picture"].removesuffix("/picture")
    aside = ann.patch(where, json={"kept": False}).json()["verdicts"][0]
    assert (aside["kept"], aside["likeness"]) == (False, one["verdicts"][0]["likeness"])
    assert ann.get("/v1/portraits", params={"person": "joe", "kept": True}).json()["items"] == []
    refused(ann.patch(where, json={"kept": "perhaps"}), 422)
    refused(ann.patch(f"{where}x", json={"kept": True}), 404, "Missing")
    ann.delete("/v1/people/joe")


def test_a_key_sent_twice_starts_one_job(ann, ben):
    first = ask(ann, "key-1", style="astronaut").json()
    assert ask(ann, "key-1", style="astronaut").json()["id"] == first["id"]
    refused(ask(ann, "key-1", style="astronaut", count=3), 409, "Conflict")
    assert ask(ben, "key-1", people=["dora"], style="astronaut").json()["id"] != first["id"]
    refused(ask(ann, "two words", style="astronaut"), 422)
    refused(ask(ann, "k" * 300, style="astronaut"), 422)


def test_a_key_with_pictures(ann):
    def send(content, key="key-2"):
        return ann.post(
            "/v1/photos/check", files=[("photos", file("a.png", content))], headers={"Idempotency-Key": key}
        )

    first = send(picture()).json()
    assert send(picture()).json()["id"] == first["id"]
    refused(send(picture(seed=1)), 409, "Conflict")
    assert first["arguments"] == {"names": ["a.png"]}


def test_jobs_of_every_kind(ann):
    upload = ann.post("/v1/uploads", files=[("pictures", file("x.png")), ("pictures", file("y.png"))]).json()
    assert upload["pictures"] == ["x.png", "y.png"]
    for asked in (
        {"kind": "judge", "person": "ada", "upload": upload["upload"]},
        {"kind": "train", "person": "ada", "settings": {"steps": 4}},
        {"kind": "fetch", "packs": ["yunet"]},
        {"kind": "make", "people": ["ada", "bea"], "template": upload["upload"], "faces": [2, 1]},
    ):
        answer = ann.post("/v1/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        assert answer.json()["kind"] == asked["kind"]
    assert ann.post("/v1/packs/yunet/fetch").json()["arguments"]["ids"] == ["yunet"]
    consent = {"name": "Eve", "consent_by": "Eve", "purpose": "tests"}
    job = ann.post("/v1/people", data=consent, files=[("photos", file())]).json()
    assert (job["kind"], job["arguments"]["names"]) == ("enrol", ["me.png"])
    assert ann.post("/v1/photos/sort", files=[("photos", file())]).json()["kind"] == "sort"


def test_no_path_of_the_server_is_ever_told(ann, home):
    test_jobs_of_every_kind(ann)
    for path in ("people", "portraits", "jobs", "packs", "styles", "engines"):
        text = ann.get(f"/v1/{path}", params={"limit": 200}).text
        assert str(home) not in text
        assert "/home/" not in text


def test_forgetting_a_person_forgets_portraits_and_jobs(ann, home):
    fill("ann", ("flo",), 2)
    job = ask(ann, people=["flo"], style="astronaut").json()["id"]
    assert ann.delete("/v1/people/flo").json() == {"forgotten": "flo", "portraits": 2}
    refused(ann.get("/v1/people/flo"), 404, "PersonMissing")
    refused(ann.get(f"/v1/jobs/{job}"), 404)
    assert not (home / "users" / "ann" / "people" / "flo").exists()


def test_a_portrait_deleted(ann):
    fill("ann", ("gil",), 2)
    one = ann.get("/v1/portraits", params={"person": "gil"}).json()["items"][0]
    where = one["picture"].removesuffix("/picture")
    assert ann.delete(where).status_code == 204
    refused(ann.get(where), 404, "Missing")
    refused(ann.delete(where), 404, "Missing")
    assert len(ann.get("/v1/portraits", params={"person": "gil"}).json()["items"]) == 1
    ann.delete("/v1/people/gil")


# ── what is refused ──────────────────────────────────────────────────────────────────────────────

TRAVERSALS = ("../ada", "..", "....//", "/etc/passwd", "ada/..", "..\\ada", "a\x00b")


@pytest.mark.parametrize("name", TRAVERSALS)
def test_traversals_lead_nowhere(ann, home, name):
    """As path, query, form field, file name and JSON: no name of ours leads out of its folder."""
    from urllib.parse import quote

    before = {path for path in home.rglob("*") if path.is_file()}
    sent = quote(name, safe="")
    for answer in (
        ann.get(f"/v1/people/{sent}"),
        ann.delete(f"/v1/people/{sent}x"),
        ann.get(f"/v1/portraits/{sent}/sitting/7-0000/picture"),
        ann.get(f"/v1/portraits/ada/{sent}/7-0000/picture"),
        ann.get(f"/v1/portraits/ada/sitting/{sent}/picture"),
        ann.get(f"/v1/jobs/{sent}x"),
        ann.get(f"/v1/styles/{sent}x"),
        ask(ann, people=[name]),
        ask(ann, style=name),
        ask(ann, base=name, style="astronaut"),
        ask(ann, template=name),
        ann.post("/v1/jobs", json={"kind": "fetch", "packs": [name]}),
        ann.post("/v1/jobs", json={"kind": "judge", "person": "ada", "upload": name}),
        ann.post("/v1/people", data={"name": name, "consent_by": "x", "purpose": "x"}, files=[("photos", file())]),
    ):
        refused(answer, answer.status_code)
        assert 400 <= answer.status_code < 500
    assert {path for path in home.rglob("*") if path.is_file()} == before
    kept = ann.post("/v1/uploads", files=[("pictures", file(f"{name}.png"))])
    if kept.status_code == 201:
        (stored,) = kept.json()["pictures"]
        assert "/" not in stored
        assert "\\" not in stored
        new = {path for path in home.rglob("*") if path.is_file()} - before
        assert {path.parent.parent for path in new} == {home / "users" / "ann" / "uploads"}


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"count": "many"},
        {"count": 10**9},
        {"count": 1e400},
        {"people": []},
        {"people": "ada"},
        {"people": [None]},
        {"people": ["ada"] * 50},
        {"people": ["x" * 200]},
        {"seed": -1},
        {"seed": 2**40},
        {"format": "exe"},
        {"faces": [0]},
        {"settings": {"deep": {"deeper": {}}}},
        {"prompt": "x" * 3000},
        {"out": "/tmp"},
        {"owner": "ben"},
        {"kind": "enrol"},
        {"kind": None},
        {"style": ["astronaut"]},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_wrong_types_and_values(ann, change):
    body = {"kind": "make", "people": ["ada"], "style": "astronaut", **change}
    answer = ann.post("/v1/jobs", content=json.dumps(body), headers={"Content-Type": "application/json"})
    refused(answer, 422, "InvalidRequest")


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"nonsense": 5}},
        {"engine": "lora", "settings": {"shape": 0.5}},
        {"engine": "faceid", "settings": {"steps": 100_000}},
        {"prompt": "<lora:x:0.8>"},
        {"prompt": "\ud800"},
        {"negative": "e" + "\u0301" * 3000},
        {"people": ["\ud800"]},
        {"kind": "train", "person": "ada", "settings": {"stepps": 5}},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_what_no_engine_could_do_is_refused_before_it_waits(ann, change):
    body = {"kind": "make", "people": ["ada"], "style": "astronaut", **change}
    body = body if body["kind"] == "make" else change
    before = ann.get("/v1/jobs").json()["items"][:1]
    refused(ann.post("/v1/jobs", content=json.dumps(body), headers={"Content-Type": "application/json"}), 422)
    assert ann.get("/v1/jobs").json()["items"][:1] == before


def test_a_misspelt_filter_does_not_vanish(ann):
    assert "kept" in refused(ann.get("/v1/portraits", params={"keep": True}), 422)["next_step"]
    refused(ann.get("/v1/engines", params={"limit": 3}), 422)
    refused(ann.get("/v1/health", params={"x": ""}), 422)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 50_000, b"{}"])
def test_bodies_that_are_no_request(ann, body):
    answer = ann.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    refused(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_what_is_not_here_is_refused_before_it_waits(ann):
    refused(ask(ann, people=["Nobody"]), 404, "PersonMissing")
    refused(ask(ann, style="no_such_style"), 404, "Missing")
    refused(ask(ann, base="no_such_pack", style="astronaut"), 404, "Missing")
    refused(ann.post("/v1/packs/no_such_pack/fetch"), 404, "Missing")
    refused(ann.get("/v1/packs/licences", params={"pack": "no_such_pack"}), 404, "Missing")
    refused(ann.post("/v1/jobs/20260102-030405-0a1b2c/cancel"), 404, "Missing")
    consent = {"name": "ada", "consent_by": "ada", "purpose": "tests"}
    refused(ann.post("/v1/people", data=consent, files=[("photos", file())]), 409, "PersonExists")
    consent = {"name": "Hal", "consent_by": " ", "purpose": "tests"}
    refused(ann.post("/v1/people", data=consent, files=[("photos", file())]), 422, "ConsentMissing")
    refused(ann.get("/v1/nothing"), 404, "NotFound")
    refused(ann.put("/v1/people"), 405, "MethodNotAllowed")


def test_large_json_announced_or_not(ann):
    large = json.dumps({"kind": "make", "people": ["ada"], "prompt": "x" * 400_000}).encode()
    refused(ann.post("/v1/jobs", content=large, headers={"Content-Type": "application/json"}), 413, "TooLarge")
    pieces = (large[at : at + 10_000] for at in range(0, len(large), 10_000))
    answer = ann.post("/v1/jobs", content=pieces, headers={"Content-Type": "application/json"})
    refused(answer, 413, "TooLarge")


def _bomb():
    """A PNG of a few hundred bytes that says it is 60,000 pixels wide and high."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.png", _bomb()),
        ("text.png", b"this is no picture"),
        ("empty.png", b""),
        ("page.html", b"<script>"),
        ("half.png", picture()[:40]),
        ("noending", picture()),
        ("", picture()),
        ("zip.jpg", b"PK\x03\x04" + bytes(100)),
    ],
)
def test_pictures_that_are_none_are_refused_and_not_kept(ann, home, name, content):
    before = {path for path in (home / "users" / "ann").rglob("*") if path.is_file()}
    for path, field in (("uploads", "pictures"), ("photos/check", "photos"), ("photos/sort", "photos")):
        answer = ann.post(f"/v1/{path}", files=[(field, file()), (field, file(name, content))])
        refused(answer, 422 if name else 400)  # a file without a name is, to a form, a long text
    assert {path for path in (home / "users" / "ann").rglob("*") if path.is_file()} == before


def test_headers_without_end(ann):
    """Refused, or cut off while still being sent, as it happens to arrive; the server goes on."""
    with contextlib.suppress(httpx.TransportError):
        assert ann.get("/v1/me", headers={"X-Long": "x" * 200_000}).status_code == 400
    assert ann.get("/v1/me").status_code == 200


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"vae": "/etc/passwd"}, 422),
        ({"lora": "models/some.safetensors:0.5"}, 422),
        ({"processes": 64}, 422),
        ({"controlnet_canny": "/etc"}, 404),
    ],
    ids=str,
)
def test_settings_that_name_files_of_the_server(ann, settings, status):
    """At this machine they may be any; from afar one could look for files, and have them opened."""
    for body in ({"kind": "make", "people": ["ada"], "style": "astronaut"}, {"kind": "train", "person": "ada"}):
        refused(ann.post("/v1/jobs", json={**body, "settings": settings}), status)
    allowed = {"kind": "make", "people": ["ada"], "engine": "faceid", "settings": {"controlnet_canny": "yunet"}}
    assert ann.post("/v1/jobs", json=allowed).status_code == 202


def test_multipart_that_does_not_fit(ann):
    refused(ann.post("/v1/uploads"), 422)
    refused(ann.post("/v1/uploads", data={"pictures": "text"}), 422)
    refused(ann.post("/v1/uploads", files=[("other", file())]), 422)
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = ann.post("/v1/uploads", content=b"--x\r\nnonsense", headers=broken)
    refused(answer, answer.status_code)
    assert answer.status_code in (400, 422)
    many = [("pictures", file(f"{at}.png", b"")) for at in range(250)]
    assert "200" in refused(ann.post("/v1/uploads", files=many), 400)["what"]


# ── its documentation ────────────────────────────────────────────────────────────────────────────


def test_the_page_asks_nothing_of_any_other_server(nobody):
    page = nobody.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    elsewhere = set(re.findall(r"https?://[^\s'\"<]+", page.text))
    assert all(url.startswith(str(nobody.base_url).rstrip("/")) for url in elsewhere)
    assert "<script" not in page.text
    document = nobody.get("/openapi.json").json()
    for path in document["paths"]:
        assert path in page.text
    assert "Idempotency-Key" in page.text
    assert "-F &#x27;name=Ada&#x27;" in page.text  # what to send
    assert "&quot;held_out&quot;: 1" in page.text  # what comes back


def test_every_operation_says_what_it_does_and_how_it_refuses(nobody):
    document = nobody.get("/openapi.json").json()
    ids = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            ids.append(operation["operationId"])
            assert operation["description"].strip()
            if path != "/v1/health":
                assert {"401", "403"} <= set(operation["responses"])
    assert len(set(ids)) == len(ids) >= 25


def test_uploads_are_swept(ann, home):
    """Those of jobs that are done at once, others after a day."""
    import os

    from facechain.api import incoming

    waiting = ann.post("/v1/photos/check", files=[("photos", file())]).json()["id"]
    done = ann.post("/v1/photos/check", files=[("photos", file())]).json()["id"]
    old = ann.post("/v1/uploads", files=[("pictures", file())]).json()["upload"]
    with bootstrap.jobs().database.writing() as connection:
        connection.execute("UPDATE jobs SET state = ? WHERE id = ?", (JobState.DONE, done))
    os.utime(home / "users" / "ann" / "uploads" / old, (0, 0))
    paths = {id: Path(bootstrap.jobs().get(id).arguments["paths"][0]) for id in (waiting, done)}
    incoming.sweep()
    assert paths[waiting].exists()
    assert not paths[done].exists()
    refused(ann.post("/v1/jobs", json={"kind": "judge", "person": "ada", "upload": old}), 404, "Missing")


def test_portraits_of_anything_but_a_picture_are_not_sent(ann, home):
    """A link that somebody put among the portraits leads nowhere."""
    fill("ann", ("ivy",), 1)
    (found,) = ann.get("/v1/portraits", params={"person": "ivy"}).json()["items"]
    path = next((home / "users" / "ann" / "people" / "ivy").rglob("7-0000.png"))
    path.unlink()
    path.symlink_to(home / "users.json")
    refused(ann.get(found["picture"]), 404)
    ann.delete("/v1/people/ivy")


def test_without_users_the_machine_is_its_own_and_no_token_is_asked_for(tmp_path, monkeypatch, home):
    from fastapi.testclient import TestClient

    from facechain.api.app import create_app

    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    bootstrap.studio.cache_clear()
    with TestClient(create_app(), base_url="http://localhost") as client:
        assert client.get("/v1/me").json() == {"user": ""}
    with TestClient(create_app(local=False), base_url="http://localhost") as client:
        refused(client.get("/v1/me"), 401, "TokenMissing")
    bootstrap.studio.cache_clear()
