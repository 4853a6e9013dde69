"""Hostile archives give an error and touch nothing outside."""

import io
import tarfile
import zipfile

import pytest
from packs_kit import tarball

from facechain.packs.archives import extract
from facechain.packs.errors import SourceFailed
from facechain.protocols import silent


def take(archive, member, tmp_path):
    into = tmp_path / "room" / "out"
    into.parent.mkdir(exist_ok=True)
    extract(archive, {member: into}, "stage", silent)
    assert [path.name for path in into.parent.iterdir()] == ["out"]
    return into.read_bytes()


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("make", [zipped, tarball])
def test_a_member_comes_out_whole(tmp_path, make):
    archive = make(tmp_path / "x", {"other": b"1", "deep/a.bin": b"abc"})
    assert take(archive, "deep/a.bin", tmp_path) == b"abc"
    with pytest.raises(SourceFailed, match="no member"):
        take(archive, "a.bin", tmp_path)


@pytest.mark.parametrize("make", [zipped, tarball])
@pytest.mark.parametrize("name", ["../escaped", "/tmp/facechain-escaped", "room/../../escaped"])
def test_a_name_that_climbs_out_decides_nothing(tmp_path, make, name):
    archive = make(tmp_path / "x", {name: b"evil", "a.bin": b"abc"})
    before = set(tmp_path.parent.rglob("*"))
    assert take(archive, name, tmp_path) == b"evil"  # into the place we chose
    assert take(archive, "a.bin", tmp_path) == b"abc"
    assert set(tmp_path.parent.rglob("*")) - before == {tmp_path / "room", tmp_path / "room" / "out"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_tar_links_and_devices_are_refused(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as file:
        info = tarfile.TarInfo("a.bin")
        info.type, info.linkname = kind, str(secret)
        file.addfile(info)
    with pytest.raises(SourceFailed, match="not a plain file"):
        take(archive, "a.bin", tmp_path)


def test_zip_links_are_refused(tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("a.bin")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(SourceFailed, match="not a plain file"):
        take(archive, "a.bin", tmp_path)


def test_broken_archives_are_refused(tmp_path):
    whole = tarball(tmp_path / "x.tgz", {"a.bin": bytes(range(256)) * 4000}).read_bytes()
    damaged = zipped(tmp_path / "y.zip", {"a.bin": bytes(range(256)) * 4000}).read_bytes()
    at = damaged.index(b"a.bin") + 60
    for data in (b"", b"no archive", whole[: len(whole) // 2], damaged[:at] + b"\xff" * 40 + damaged[at + 40 :]):
        archive = tmp_path / "broken"
        archive.write_bytes(data)
        with pytest.raises(SourceFailed):
            take(archive, "a.bin", tmp_path)


def test_a_size_that_lies_is_caught(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.bin", bytes(5_000_000))
    data = bytearray(buffer.getvalue())
    size = (5_000_000).to_bytes(4, "little")
    central = data.rindex(size)
    data[central : central + 4] = (1000).to_bytes(4, "little")
    archive = tmp_path / "x.zip"
    archive.write_bytes(data)
    with pytest.raises(SourceFailed):
        take(archive, "a.bin", tmp_path)
