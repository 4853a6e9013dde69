"""Archives of people and workspaces: what comes out is what went in, or nothing."""

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from store_kit import crop, files, keep, person, portrait
from test_store_workspace import assert_same

from facechain import bootstrap, disk
from facechain.errors import (
    ArchiveError,
    Cancelled,
    Conflict,
    ConsentMissing,
    PassphraseMissing,
    PersonExists,
    PersonMissing,
    SignerUnknown,
    UserError,
)
from facechain.store import archive, encryption, signing

PASSPHRASE = "four words or more"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Nobody waits for the disk, and a passphrase is tried in a millisecond."""
    monkeypatch.setattr("os.fsync", lambda file: None)
    monkeypatch.setattr(encryption, "PASSES", encryption.argon2id.OPSLIMIT_MIN)
    monkeypatch.setattr(encryption, "MEMORY_BYTES", encryption.argon2id.MEMLIMIT_MIN)


@pytest.fixture
def here(tmp_path: Path):
    """A studio with Ada: a photo, a finished training, a portrait of her and one with Bob."""
    studio = bootstrap.studio_at(tmp_path / "here")
    workspace = studio.tools.workspace
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photo")
    ada = person("ada", crops=(crop(0, hashlib.sha256(b"a photo").hexdigest(), 8), crop(1, side_px=8)), side_px=8)
    workspace.save_person("ada", ada, [photo])
    workspace.save_person("bob", person("bob", seed=9, side_px=8), [])
    run = workspace.new_run("ada", "run")
    keep(workspace, run, portrait("1-0000", ("ada",)))
    keep(workspace, run, portrait("1-0001", ("ada", "bob")))
    result = workspace.learned("ada") / "0a1b" / "result"
    result.mkdir(parents=True)
    (result.parent / "job.json").write_text("{}")
    (result / "result.json").write_text("{}")
    (result / "lora.safetensors").write_bytes(_safetensors())
    return studio


@pytest.fixture
def there(tmp_path: Path):
    return bootstrap.studio_at(tmp_path / "there")


def _safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


def exported(studio, passphrase: str = "") -> bytes:
    return b"".join(studio.export_person("ada", passphrase))


def imported(studio, data: bytes, sender, **how):
    return studio.import_person(io.BytesIO(data), trust_signer=sender.key_fingerprint(), **how)


def holds_nothing(studio) -> bool:
    return files(studio.tools.workspace.folder) <= {"people"}


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_a_person_comes_out_as_they_went_in(here, there, passphrase):
    data = exported(here, passphrase)
    came = imported(there, data, here, passphrase=passphrase)
    assert (came.person.portraits, came.own) == (1, False)
    assert_same(there.person("ada"), here.person("ada"))
    theirs, ours = (studio.tools.workspace.folder / "people/ada" for studio in (there, here))
    for path in ("learned/0a1b/result/lora.safetensors", "portraits/run/1-0000.png"):
        assert (theirs / path).read_bytes() == (ours / path).read_bytes()
    assert [photo.read_bytes() for photo in (theirs / "photos").iterdir()] == [b"a photo"]
    assert [shown.slugs for shown in there.portraits("ada")] == [("ada",)]
    assert there.check_workspace() == ()


def test_portraits_that_show_others_stay_at_home(here):
    with tarfile.open(fileobj=io.BytesIO(exported(here))) as tar:
        names = tar.getnames()
    assert "portraits/run/1-0000.png" in names
    assert not [name for name in names if "1-0001" in name]


def test_another_name_goes_everywhere(here, there):
    came = imported(there, exported(here), here, name="eve")
    assert came.person.name == "eve"
    (shown,) = there.portraits("eve")
    assert (shown.people, shown.slugs, shown.verdicts[0].person) == (("eve",), ("eve",), "eve")


def test_an_imported_person_is_forgotten_wholly_and_may_come_again(here, there):
    data = exported(here)
    imported(there, data, here, name="eve")
    assert there.tools.workspace.forget("eve") == 1
    assert not [path for path in there.tools.workspace.folder.rglob("*") if "eve" in path.name]
    imported(there, data, here, name="eve")
    assert there.person("eve").name == "eve"


def test_who_is_here_already_is_not_replaced(here, there):
    data = exported(here)
    imported(there, data, here)
    with pytest.raises(PersonExists, match="another name"):
        imported(there, data, here)


def test_an_unknown_signer_is_told_and_not_taken(here, there):
    with pytest.raises(SignerUnknown, match=here.key_fingerprint()):
        there.import_person(io.BytesIO(exported(here)))
    assert holds_nothing(there)
    own = here.import_person(io.BytesIO(exported(here)), name="eve")
    assert own.own


def test_the_key_is_its_owners_alone(here):
    here.key_fingerprint()
    assert (here.tools.workspace.folder / signing.FILE).stat().st_mode & 0o777 == 0o600


def test_without_consent_nobody_travels(here, there):
    sheet = here.tools.workspace.folder / "people/ada/person.json"
    values = json.loads(sheet.read_bytes())
    sheet.write_text(json.dumps({**values, "consent": {**values["consent"], "purpose": " "}}))
    with pytest.raises(ConsentMissing):
        exported(here)
    with pytest.raises(ConsentMissing):
        imported(there, b"".join(here.tools.workspace.export_person("ada")), here)
    assert holds_nothing(there)


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_whatever_is_changed_cut_or_added_is_refused(here, there, passphrase):
    data = exported(here, passphrase)
    for at in range(0, len(data), 509):
        changed = bytearray(data)
        changed[at] ^= 1
        for broken in (bytes(changed), data[:at]):
            with pytest.raises(ArchiveError):
                imported(there, broken, here, passphrase=passphrase)
    for added in (b"\0", b"more"):
        with pytest.raises(ArchiveError):
            imported(there, data + added, here, passphrase=passphrase)
    assert holds_nothing(there)


def test_frames_of_an_encrypted_archive_cannot_be_left_out(here, there):
    (here.tools.workspace.learned("ada") / "0a1b" / "result" / "more.safetensors").write_bytes(bytes(200_000))
    data = exported(here, PASSPHRASE)
    begin = len(encryption.MAGIC) + 16 + 24
    frame = encryption.FRAME_BYTES + 17
    first, second, rest = data[begin:][:frame], data[begin + frame :][:frame], data[begin + 2 * frame :]
    for kept in (first + second, first + rest, second + first + rest):
        with pytest.raises(ArchiveError):
            imported(there, data[:begin] + kept, here, passphrase=PASSPHRASE)


def test_passphrases(here, there):
    data = exported(here, PASSPHRASE)
    assert b"person.json" not in data
    with pytest.raises(PassphraseMissing):
        imported(there, data, here)
    with pytest.raises(ArchiveError, match="passphrase is wrong"):
        imported(there, data, here, passphrase=PASSPHRASE + ".")
    with pytest.raises(ArchiveError, match="at least 10"):
        exported(here, "short")


def forged(studio, entries: dict[str, bytes], kind: str = "person", version: int = archive.VERSION) -> bytes:
    """Signed as it should be, whatever is in it."""
    root = studio.tools.workspace.folder / "forged"
    root.mkdir()
    sources = {path: root / str(number) for number, path in enumerate(entries)}
    for path, source in sources.items():
        source.write_bytes(entries[path])
    key = signing.signing_key(studio.tools.workspace.folder)
    listed = [
        {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in entries.items()
    ]
    public = base64.b64encode(bytes(key.verify_key)).decode()
    about = {"format": archive.FORMAT, "version": version, "kind": kind, "made": "", "public_key": public}
    manifest = json.dumps({**about, "files": listed}).encode()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in {"manifest.json": manifest, "manifest.sig": signing.sign(key, manifest), **entries}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    blocks = made.getvalue().rstrip(b"\0")
    return blocks + bytes(-len(blocks) % 512) + bytes(1024)


@pytest.mark.parametrize(
    "path",
    [
        "../stolen",
        "photos/../../stolen",
        "/tmp/stolen",
        "photos//stolen",
        "photos\\..\\stolen",
        "C:stolen",
        "photos/.hidden",
        "photos",
        "notes.txt",
        "crops/model.pkl",
        "learned/a/checkpoints/b",
        "portraits/run/page.html",
        "Person.json",
    ],
)
def test_paths_that_do_not_belong_are_refused(here, there, path):
    here.key_fingerprint()
    with pytest.raises(ArchiveError, match="does not belong"):
        imported(there, forged(here, {path: b"x"}), here)
    assert holds_nothing(there)


def test_two_files_of_one_name_are_refused(here, there):
    here.key_fingerprint()
    with pytest.raises(ArchiveError, match="does not belong"):
        imported(there, forged(here, {"photos/a": b"x", "photos/A": b"x"}), here)


@pytest.mark.parametrize(
    ("what", "message"),
    [({"version": 2}, "version 2"), ({"kind": "workspace"}, "workspace restore"), ({}, "person cannot be read")],
)
def test_other_versions_kinds_and_contents_are_refused(here, there, what, message):
    here.key_fingerprint()
    with pytest.raises(ArchiveError, match=message):
        imported(there, forged(here, {"person.json": b"[]"} if not what else {}, **what), here)


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE])
def test_links_devices_and_sparse_files_are_refused(here, there, type_):
    data = bytearray(exported(here))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.getmembers()[2]
        member.type = type_
        at = member.offset
    data[at : at + 512] = member.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(ArchiveError):
        imported(there, bytes(data), here)
    assert holds_nothing(there)


def test_a_small_archive_does_not_unpack_to_much(here, there):
    """What another machine lends is read the same way."""
    (bomb,) = (here.tools.workspace.folder / "people/ada/crops").glob("photo2.npz")
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as crops, crops.open("more.npy", "w") as member:
        for _ in range(136):
            member.write(bytes(2**20))
    assert bomb.stat().st_size < 300_000
    workspace = here.tools.workspace
    whole, lent = (b"".join(workspace.export_person("ada", complete=complete)) for complete in (True, False))
    for read in (lambda: imported(there, whole, here), lambda: there.borrow("ada", lent)):
        with pytest.raises(ArchiveError):
            read()
        assert holds_nothing(there)


def test_a_verdict_of_other_types_is_refused(here, there):
    sidecar = here.tools.workspace.folder / "people/ada/portraits/run/1-0000.json"
    values = json.loads(sidecar.read_bytes())
    sidecar.write_text(json.dumps({**values, "verdicts": [{**values["verdicts"][0], "likeness": "<b>"}]}))
    with pytest.raises(ArchiveError, match="portrait 1-0000"):
        imported(there, exported(here), here)


def test_a_large_file_is_never_whole_in_memory(here):
    weights = here.tools.workspace.folder / "people/ada/learned/0a1b/result/lora.safetensors"
    with weights.open("wb") as file:
        file.truncate(5 * archive.CHUNK_BYTES)
    for passphrase in ("", PASSPHRASE):
        chunks = here.export_person("ada", passphrase)
        assert max(map(len, chunks)) <= archive.CHUNK_BYTES


def test_what_changes_on_the_way_stops_it(here):
    chunks = here.export_person("ada")
    next(chunks)
    here.tools.workspace.forget("ada")
    with pytest.raises(Conflict, match="changed or deleted"):
        list(chunks)
    with pytest.raises(PersonMissing):
        here.export_person("ada")


def test_stopping_leaves_nothing(here, there, tmp_path):
    def stop(stage, done, total):
        if done:
            raise Cancelled

    out = tmp_path / "ada.tar"
    with pytest.raises(Cancelled):
        disk.save(out, here.export_person("ada", tick=stop))
    with pytest.raises(Cancelled):
        imported(there, exported(here), here, tick=stop)
    assert holds_nothing(there)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "photo.jpg", "there"]


def test_a_saved_archive_is_private_and_replaces_nothing(here, tmp_path):
    out = tmp_path / "ada.tar"
    disk.save(out, [b"x"])
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="--out"):
        disk.save(out, [b"y"])
    with pytest.raises(UserError, match="cannot be written"):
        disk.save(tmp_path / "none" / "ada.tar", [b"x"])


# ── a workspace ──────────────────────────────────────────────────────────────────────────────────


def test_a_workspace_comes_back_with_its_users(here, there, tmp_path):
    folder, restored = here.tools.workspace.folder, there.tools.workspace.folder
    guest = bootstrap.studio_at(folder / "users" / "gus")
    guest.tools.workspace.save_person("carl", person("carl", seed=20, side_px=8), [])
    (folder / "users.json").write_text("[]")
    (folder / "uploads").mkdir()
    (folder / "uploads" / "photo.jpg").write_bytes(b"on its way")
    data = b"".join(here.backup())
    with pytest.raises(SignerUnknown):
        there.restore(io.BytesIO(data))
    assert there.restore(io.BytesIO(data), trust_signer=here.key_fingerprint()) > 10
    kept = {name for name in files(folder) if name.startswith("people") or name.startswith("users")}
    assert kept == files(restored)
    assert there.check_workspace() == ()
    with pytest.raises(Conflict, match="empty folder"):
        there.restore(io.BytesIO(data), trust_signer=here.key_fingerprint())


DAMAGE = {
    "person.json": ("people/ada/person.json", lambda path: path.write_text("{")),
    "crops/photo2.npz": ("people/ada/person.json", lambda path: path.write_bytes(path.read_bytes()[:100])),
    "photos/*": (None, lambda path: path.write_bytes(b"another")),
    "portraits/run/1-0000.json": (None, lambda path: path.write_text("{}")),
    "portraits/run/1-0001.json": ("people/ada/portraits/run/1-0001.png", lambda path: path.unlink()),
    "portraits/run/1-0000.png": (None, lambda path: path.write_bytes(path.read_bytes()[:400])),
    "learned/0a1b/result/lora.safetensors": (None, lambda path: path.write_bytes(path.read_bytes()[:-1])),
}


@pytest.mark.parametrize("damaged", DAMAGE)
def test_check_names_what_is_damaged(here, damaged):
    folder = here.tools.workspace.folder
    assert here.check_workspace() == ()
    (path,) = (folder / "people/ada").glob(damaged)
    named, damage = DAMAGE[damaged]
    damage(path)
    findings = here.check_workspace()
    assert (named or path.relative_to(folder).as_posix()) in [finding.path for finding in findings]
    assert all(finding.next_step for finding in findings)


def test_check_notices_an_index_that_lies_and_rebuild_mends_it(here):
    import sqlite3

    assert len(here.portraits()) == 2
    with sqlite3.connect(here.tools.workspace.folder / "records.sqlite") as connection:
        connection.execute("UPDATE portraits SET run = 'another'")
    connection.close()
    assert [finding.path for finding in here.check_workspace()] == ["records.sqlite"]
    here.rebuild_index()
    assert here.check_workspace() == ()
