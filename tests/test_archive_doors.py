"""Export, import, backup and restore from every door: what is taken, and how it is refused."""

import contextlib
import json
from pathlib import Path

import httpx
import pytest
from api_kit import fill, serving
from fastapi import FastAPI

from facechain import bootstrap
from facechain.cli import app, guarded
from facechain.store import encryption
from facechain.ui import archives
from facechain.ui.sessions import Gate, Sessions

PASSPHRASE = "four words or more"
PAGE = {"X-FaceChain": "1"}


@pytest.fixture(scope="module")
def home(tmp_path_factory, models):
    """Ann has Ada with two portraits, Ben has Dora."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("archives")
        patch.setenv("FACECHAIN_WORKSPACE", str(folder))
        patch.setenv("FACECHAIN_MODELS", str(Path(models).absolute()))
        patch.setattr(encryption, "PASSES", encryption.argon2id.OPSLIMIT_MIN)
        patch.setattr(encryption, "MEMORY_BYTES", encryption.argon2id.MEMLIMIT_MIN)
        bootstrap.studio.cache_clear()
        fill("ann", ("ada",), 2)
        fill("ben", ("dora",), 1)
        yield folder
    bootstrap.studio.cache_clear()


@pytest.fixture(scope="module")
def clients(home):
    """Ann's and Ben's programs, Ann's and Ben's browsers."""
    from facechain.api.app import create_app

    tokens = {name: bootstrap.users().add(name, name) for name in ("ann", "ben")}
    pages = FastAPI()
    pages.include_router(archives.router)
    pages.add_middleware(Gate, sessions=Sessions(who=bootstrap.users().who, closed=lambda: True))
    with serving(create_app()) as v1, serving(pages) as browser, contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                httpx.Client(base_url=address, timeout=30, headers={"Authorization": f"Bearer {token}"})
            )
            for address in (v1, browser)
            for token in tokens.values()
        ]


@pytest.fixture(autouse=True)
def _nobody_came(home):
    yield
    for owner, stays in (("ann", "ada"), ("ben", "dora")):
        studio = bootstrap.studio(owner)
        for person in studio.people():
            if person.slug != stays:
                studio.forget(person.name)


def archive(data):
    return {"archive": ("ada.tar", data, "application/octet-stream")}


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_a_program_takes_a_person_from_one_user_to_another(clients, passphrase):
    ann, ben, *_ = clients
    sent = ann.post("/v1/people/ada/export", json={"passphrase": passphrase})
    assert sent.headers["content-disposition"].endswith(f'"ada.tar{".encrypted" if passphrase else ""}"')
    given = {"passphrase": passphrase, "name": "eve"}
    refused = ben.post("/v1/people/import", files=archive(sent.content), data=given)
    assert (refused.status_code, refused.json()["error"]) == (409, "SignerUnknown")
    signer = bootstrap.studio("ann").key_fingerprint()
    assert signer in refused.json()["what"]
    came = ben.post("/v1/people/import", files=archive(sent.content), data={**given, "trust_signer": signer})
    assert came.status_code == 201
    assert (came.json()["person"]["slug"], came.json()["person"]["portraits"]) == ("eve", 2)
    assert (came.json()["signer"], came.json()["own"]) == (signer, False)
    assert len(ben.get("/v1/portraits", params={"person": "eve"}).json()["items"]) == 2


def test_what_a_program_is_refused(clients):
    ann, ben, *_ = clients
    assert ben.post("/v1/people/ada/export", json={}).status_code == 404
    assert ann.post("/v1/people/ada/export", json={"passphrase": "short"}).status_code == 422
    data = ann.post("/v1/people/ada/export", json={}).content
    again = ann.post("/v1/people/import", files=archive(data))
    assert (again.status_code, again.json()["error"]) == (409, "PersonExists")
    for broken in (data[:-1], data[:5000] + b"!" + data[5001:], b"", b"\x89PNG"):
        refused = ann.post("/v1/people/import", files=archive(broken), data={"name": "eve"})
        assert (refused.status_code, refused.json()["error"]) == (422, "ArchiveError")
    assert [person["slug"] for person in ann.get("/v1/people").json()["items"]] == ["ada"]


def test_a_page_downloads_a_person_and_another_takes_them_in(clients):
    *_, ann, ben = clients
    sent = ann.post("/people/export/ada", data={"passphrase": PASSPHRASE})
    assert sent.headers["content-disposition"].startswith("attachment")
    asked = ben.post("/people/import", files=archive(sent.content), headers=PAGE, data={"passphrase": PASSPHRASE})
    signer = asked.json()["signer"]
    assert signer == bootstrap.studio("ann").key_fingerprint()
    given = {"passphrase": PASSPHRASE, "trust_signer": signer}
    came = ben.post("/people/import", files=archive(sent.content), headers=PAGE, data=given)
    assert came.json() == {"name": "ada"}
    assert ben.post("/people/export/ada").content


def test_what_a_page_is_refused(clients):
    *_, ann, ben = clients
    data = ann.post("/people/export/ada").content
    assert ben.post("/people/export/ada").status_code == 404
    assert "at least 10" in ann.post("/people/export/ada", data={"passphrase": "short"}).text
    assert (
        ann.post("/people/import", files=archive(data)).status_code == 403
    )  # another site's form cannot name a header
    assert "another name" in ann.post("/people/import", files=archive(data), headers=PAGE).json()["next_step"]
    assert httpx.post(f"{ann.base_url}/people/import", files=archive(data), headers=PAGE).status_code == 401


def run(*words):
    return guarded(lambda: app(list(map(str, words)), standalone_mode=False))


@pytest.fixture
def terminal(tmp_path, monkeypatch, home):
    """A workspace of its own with Ada, as whoever sits at the machine has."""
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path / "workspace"))
    bootstrap.studio.cache_clear()
    fill("", ("ada",), 1)
    yield tmp_path
    bootstrap.studio.cache_clear()


def test_the_command_line_exports_and_imports(terminal, capsys, monkeypatch):
    out = terminal / "ada.tar"
    assert run("people", "export", "ada", "--out", out, "--encrypt") == 2  # no terminal to ask in
    monkeypatch.setenv("FACECHAIN_PASSPHRASE", PASSPHRASE)
    assert run("people", "export", "ada", "--out", out, "--encrypt", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == out.stat().st_size
    assert run("people", "import", out) == 2
    assert "another name" in capsys.readouterr().err
    assert run("people", "import", out, "--name", "eve", "--json") == 0
    assert json.loads(capsys.readouterr().out)["own"] is True
    monkeypatch.delenv("FACECHAIN_PASSPHRASE")
    assert run("people", "import", out, "--name", "zoe") == 2
    assert "FACECHAIN_PASSPHRASE" in capsys.readouterr().err
    assert run("people", "import", terminal / "none.tar") == 2


def test_the_command_line_backs_up_restores_and_checks(terminal, capsys, monkeypatch):
    out = terminal / "backup.tar"
    assert run("workspace", "backup", "--out", out) == 0
    assert run("workspace", "key") == 0
    signer = capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(terminal / "restored"))
    bootstrap.studio.cache_clear()
    assert run("workspace", "restore", out) == 2
    assert run("workspace", "restore", out, "--trust-signer", signer) == 0
    assert run("workspace", "check") == 0
    capsys.readouterr()
    assert run("workspace", "rebuild", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"portraits": 1}
    (terminal / "restored/people/ada/person.json").write_text("{")
    assert run("workspace", "check") == 2
    assert "people/ada/person.json" in capsys.readouterr().out
