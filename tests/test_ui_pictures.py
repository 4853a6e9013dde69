"""Pictures in and out: another's answer as if there were none, and nothing outside one's own workspace is served."""

import asyncio
import contextlib
import html
import io
import json
import re
import zipfile
from pathlib import Path

import httpx
import pytest
from api_kit import fill, picture, serving
from fastapi import FastAPI
from PIL import Image

from facechain import bootstrap
from facechain.api.uploads import MAX_FILES, Uploads
from facechain.errors import UserError
from facechain.photos import read as reading
from facechain.ui import pictures, thumbnails
from facechain.ui.desk import Desk
from facechain.ui.phrases import Words
from facechain.ui.sessions import Gate, Sessions
from facechain.ui.tabs import train

SEND = {"X-FaceChain": "1", "Content-Type": "application/octet-stream"}
BATCH = "0123456789abcdef"


@pytest.fixture(scope="module")
def home(tmp_path_factory, models):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("pictures")
        patch.setenv("FACECHAIN_WORKSPACE", str(folder))
        patch.setenv("FACECHAIN_MODELS", str(Path(models).absolute()))
        bootstrap.studio.cache_clear()
        fill("ann", ("ada",), 1)
        fill("ben", ("dora",), 1)
        yield folder
    bootstrap.studio.cache_clear()


@pytest.fixture(scope="module")
def clients(home):
    """ann's browser, ben's, and a stranger's."""
    app = FastAPI()
    app.include_router(pictures.router)
    tokens = {bootstrap.users().add(name, name): name for name in ("ann", "ben")}
    app.add_middleware(Gate, sessions=Sessions(who=tokens.get, closed=lambda: True))
    with serving(app) as address, contextlib.ExitStack() as stack:
        headers = [{"Authorization": f"Bearer {token}"} for token in tokens] + [{}]
        yield [stack.enter_context(httpx.Client(base_url=address, timeout=30, headers=given)) for given in headers]


@pytest.fixture(scope="module")
def addresses(home, clients):
    """Everything of ann's that has an address."""
    faces = bootstrap.studio("ann")
    (portrait,), photo = faces.portraits(), faces.photos("ada")[0]
    assert clients[0].post(f"/uploads/{BATCH}?name=me.png", headers=SEND, content=picture()).status_code == 200
    return [
        f"/pictures/portrait/{portrait.key}",
        f"/pictures/portrait/{portrait.key}?w=480",
        f"/pictures/portrait/{portrait.key}?save=1",
        f"/pictures/photo/{portrait.slug}/{photo.id}",
        f"/pictures/upload/{BATCH}/me.png",
        f"/export?keys={portrait.key}",
    ]


def test_what_is_ones_own_is_shown_and_anothers_is_not_there(clients, addresses):
    ann, ben, stranger = clients
    for address in addresses:
        assert ann.get(address).status_code == 200, address
        answer, unknown = ben.get(address), ben.get("/pictures/portrait/no/such/one")
        assert (answer.status_code, answer.content) == (404, unknown.content), address
        assert stranger.get(address).status_code == 401, address


def test_a_thumbnail_is_decoded_once_and_refused_when_too_many_wait(clients, addresses, monkeypatch):
    decoded, read = [], reading.read_reduced

    def counted(path, least_px):
        decoded.append(path)
        return read(path, least_px)

    for module in (pictures, thumbnails):
        monkeypatch.setattr(module, "read_reduced", counted, raising=False)
    address = addresses[0] + "?w=320"
    assert len({clients[0].get(address).content for _ in range(5)}) == 1
    assert len(decoded) == 1
    monkeypatch.setattr(pictures, "THUMBNAILS", thumbnails.Thumbnails(waiting=0))
    busy = clients[0].get(address)
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "2")
    assert clients[1].get(address).status_code == 404


def test_a_training_shows_its_curve_and_pictures_to_whose_it_is(clients, home):
    faces = bootstrap.studio("ann")
    folder = faces.tools.workspace.learned("ada") / "lora-0123"
    for step in (100, 200):
        (folder / "validation" / f"step-{step:06d}").mkdir(parents=True)
        (folder / "validation" / f"step-{step:06d}" / "0.png").write_bytes(picture())
    (folder / "job.json").write_text("{}")
    points = [{"step": 100, "likeness": 0.2}, {"step": 200, "likeness": 0.5}]
    (folder / "curve.json").write_text(json.dumps({"points": points}))
    page = train._shown(Desk(owner="ann", w=Words()), "ada")
    assert "Not finished" in page
    assert "it goes on from there" in page
    assert page.count("<circle") == 2
    addresses = [html.unescape(address) for address in re.findall(r'src="(/pictures/sample/[^"]+)"', page)]
    assert len(addresses) == 2
    for address in addresses:
        assert [client.get(address).status_code for client in clients] == [200, 404, 401], address


def test_an_export_with_one_of_anothers_gives_none(clients):
    (mine,), (theirs,) = bootstrap.studio("ben").portraits(), bootstrap.studio("ann").portraits()
    ben = clients[1]
    with zipfile.ZipFile(io.BytesIO(ben.get(f"/export?keys={mine.key}").content)) as file:
        assert len(file.namelist()) == 1
    assert ben.get(f"/export?keys={mine.key},{theirs.key}").status_code == 404


@pytest.mark.parametrize("up", ["..", "%2e%2e", "..%2f..", "..%5c..", "%2fetc", "C:%5c", "ann%2f..%2fann"])
def test_no_way_leads_out_of_the_workspace(clients, home, up):
    ann = clients[0]
    for address in (
        f"/pictures/upload/{up}/users.json",
        f"/pictures/upload/{BATCH}/{up}%2fme.png",
        f"/pictures/portrait/{up}/users/ann",
        f"/pictures/photo/{up}/passwd",
        f"/pictures/style/{up}",
        f"/pictures/sample/{up}/a/b/c",
        f"/export?keys={up}/a/b",
    ):
        assert ann.get(address).status_code in (403, 404), address


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("..%2f..%2fevil.jpg", "evil.jpg"),
        ("..%5c..%5cevil.png", "evil.png"),
        ("%2fetc%2fevil.webp", "evil.webp"),
        ("C:%5cevil.png", "evil.png"),
        ("%00evil.png", "evil.png"),
        ("a" * 500 + ".png", "a" * 120 + ".png"),
    ],
)
def test_a_name_is_only_a_name(clients, home, name, kept):
    """A real picture under a hostile name lies where all uploads lie."""
    batch, before = "fedcba9876543210", _files(home)
    kind = {"jpg": "JPEG", "webp": "WEBP"}.get(kept.rpartition(".")[2], "PNG")
    answer = clients[0].post(f"/uploads/{batch}?name={name}", headers=SEND, content=picture(format=kind))
    assert answer.json() == {"name": kept}
    assert _files(home) - before == {f"users/ann/drops/{batch}/{kept}"}
    Uploads(home / "users" / "ann", "drops").drop(batch)


def test_more_than_announced_is_cut_off(clients, home, monkeypatch):
    monkeypatch.setattr("facechain.api.uploads.MAX_BYTES", 100_000)
    before = _files(home)

    def body():
        yield picture()
        for _ in range(20):
            yield b"\0" * 10_000

    answer = clients[0].post(f"/uploads/{BATCH}?name=long.png", headers=SEND, content=body())
    assert answer.status_code == 413
    assert "larger than" in answer.json()["what"]
    assert _files(home) == before


async def _at_once(uploads, count, body):
    """What became of so many uploads of one name into one batch, each sending while the others do."""

    async def chunks():
        yield body[:100]
        await asyncio.sleep(0)
        yield body[100:]

    sent = [uploads.receive(BATCH, "me.png", chunks(), 0) for _ in range(count)]
    return await asyncio.gather(*sent, return_exceptions=True)


@pytest.mark.parametrize("limit", ["MAX_TOTAL_BYTES", "MAX_FILES"])
def test_uploads_that_arrive_at_once_share_one_limit(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(f"facechain.api.uploads.{limit}", 3 * 2**20 if limit == "MAX_TOTAL_BYTES" else 3)
    uploads, body = Uploads(tmp_path), picture()
    came = asyncio.run(_at_once(uploads, 5, body))
    assert [type(what) for what in came].count(UserError) == 2
    assert [path.name for path in uploads.files(BATCH)] == ["me-2.png", "me-3.png", "me.png"]
    assert all(path.read_bytes() == body for path in uploads.files(BATCH))
    uploads.drop(BATCH)
    assert not any(isinstance(what, UserError) for what in asyncio.run(_at_once(uploads, 3, body)))  # no room is lost


def _files(home):
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file() and "drops" in path.parts}


def test_photos_added_later_join_those_that_wait(tmp_path):
    uploads = Uploads(tmp_path)
    one, other = "0" * 16, "1" * 16
    for batch, names in ((one, ("a.png", "b.png")), (other, ("b.png", "c.png"))):
        uploads.folder(batch).mkdir(parents=True)
        for name in names:
            (uploads.folder(batch) / name).write_text(batch)
    uploads.join(one, other)
    assert [path.name for path in uploads.files(one)] == ["a.png", "b-2.png", "b.png", "c.png"]
    assert (uploads.folder(one) / "b.png").read_text() == one
    assert not uploads.folder(other).exists()


def test_photos_too_many_to_join_are_refused(tmp_path):
    uploads = Uploads(tmp_path)
    for batch, count in (("0" * 16, MAX_FILES), ("1" * 16, 1)):
        uploads.folder(batch).mkdir(parents=True)
        for number in range(count):
            (uploads.folder(batch) / f"{number}.png").touch()
    with pytest.raises(UserError, match="enough for one upload"):
        uploads.join("0" * 16, "1" * 16)
    assert len(uploads.files("0" * 16)) == MAX_FILES


def test_a_picture_to_paint_into_is_shown_upright(clients, models):
    stored, batch = io.BytesIO(), "fedcba9876543210"
    Image.open(models / "demo-photos" / "obama.jpg").rotate(90, expand=True).save(stored, "JPEG")
    assert clients[0].post(f"/uploads/{batch}?name=me.jpg", headers=SEND, content=stored.getvalue()).status_code == 200
    address = f"/pictures/upload/{batch}/me.jpg?w=160"
    sizes = [Image.open(io.BytesIO(clients[0].get(address + more).content)).size for more in ("", "&upright=1")]
    assert sizes == [(160, 128), (160, 200)]
