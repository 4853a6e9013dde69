"""Downloads end whole, verified and in place, or not at all."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packs_kit import DATA, pack, sdist, sha, tarball, wheel

from facechain.errors import Cancelled, HashMismatch, PackError, PackMissing, StoreError
from facechain.packs import Pack, PackFile, Packs, Verified
from facechain.packs.manifest import HubSource, LocalSource, NpmSource, PypiSource

ROOT = Path(__file__).resolve().parents[2]
REVISION = "12" * 20
HUB_PATH = f"/owner/name/resolve/{REVISION}/deep/a.bin"
FROM_HUB = HubSource(repo="owner/name", revision=REVISION, members={"a.bin": "deep/a.bin"})
WRONG = bytes(len(DATA))


def packs(folder: Path, *made: Pack, offline: bool = False) -> Packs:
    return Packs({one.id: one for one in made}, folder / "models", offline)


def folder_source(folder: Path, data: bytes = DATA, name: str = "mine") -> LocalSource:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "a.bin").write_bytes(data)
    return LocalSource(folder=str(folder / name), members={"a.bin": "a.bin"})


def from_pip(archive: Path, member: str, kind: str = "wheel", sha256: str = "") -> PypiSource:
    data = archive.read_bytes()
    return PypiSource(
        name="tiny_model",
        version="1.0",
        archive=kind,
        sha256=sha256 or sha(data),
        bytes=len(data),
        members={"a.bin": member},
    )


def files_below(folder: Path) -> set[str]:
    """Names of the pack files, finished or not, without our own records."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != "fetched.json"}


# ── whatever the source ──────────────────────────────────────────────────────────────────────────


def test_a_fetched_file_is_whole_verified_and_known(tmp_path):
    made = packs(tmp_path, pack(folder_source(tmp_path)))
    before = made.status("tiny")
    assert (before.present, before.verified, before.source) == (False, Verified.NO, "")
    after = made.fetch("tiny")
    assert (after.present, after.verified, after.bytes) == (True, Verified.YES, len(DATA))
    assert after.source.startswith("folder")
    assert made.path("tiny", "a.bin").read_bytes() == DATA
    assert files_below(tmp_path / "models" / "tiny") == {"a.bin"}
    assert made.list() == (after,)


@pytest.mark.parametrize("offline", [True, False])
def test_a_file_that_only_a_folder_has_is_asked_for_there(tmp_path, monkeypatch, offline):
    monkeypatch.delenv("MY_WEIGHTS", raising=False)
    source = LocalSource(folder="$MY_WEIGHTS/tiny", members={"a.bin": "a.bin"})
    made = packs(tmp_path, pack(source, unverified=True), offline=offline)
    with pytest.raises(PackMissing, match=r"\$MY_WEIGHTS/tiny/a\.bin is not there.*a variable you set to a folder"):
        made.fetch("tiny")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "a.bin").write_bytes(DATA)
    monkeypatch.setenv("MY_WEIGHTS", str(tmp_path))
    assert made.fetch("tiny").bytes == len(DATA)


def test_a_known_file_is_not_hashed_again(tmp_path, monkeypatch):
    made = packs(tmp_path, pack(folder_source(tmp_path)))
    made.fetch("tiny")
    again = packs(tmp_path, *made.manifests.values())
    monkeypatch.setattr("facechain.packs.fetch.sha256_of", lambda *args: pytest.fail("hashed"))
    monkeypatch.setattr("facechain.packs.fetch.locked", lambda *args: pytest.fail("wrote"))
    assert again.fetch("tiny").verified == Verified.YES
    assert again.path("tiny", "a.bin").is_file()


def test_a_missing_pack_names_the_command(tmp_path):
    made = packs(tmp_path, pack(folder_source(tmp_path)))
    for ask in (lambda: made.path("tiny", "a.bin"), lambda: made.verify("tiny")):
        with pytest.raises(PackMissing, match="facechain packs fetch tiny"):
            ask()
    with pytest.raises(PackError, match=r"a\.bin"):
        made.path("tiny", "b.bin")
    with pytest.raises(PackError, match="Known packs: tiny"):
        made.fetch("other")


def test_wrong_bytes_are_refused_and_named_and_the_next_source_is_tried(tmp_path):
    bad, good = folder_source(tmp_path, WRONG, "bad"), folder_source(tmp_path)
    assert "mine" in packs(tmp_path, pack(bad, good)).fetch("tiny").source
    with pytest.raises(HashMismatch) as caught:
        packs(tmp_path / "two", pack(bad)).fetch("tiny")
    assert sha(WRONG) in str(caught.value)
    assert sha(DATA) in str(caught.value)
    assert files_below(tmp_path / "two" / "models" / "tiny") == set()


def test_a_file_copied_in_by_hand_is_checked_before_use(tmp_path):
    made = packs(tmp_path, pack(folder_source(tmp_path)))
    target = tmp_path / "models" / "tiny" / "a.bin"
    target.parent.mkdir(parents=True)
    target.write_bytes(WRONG)
    assert made.status("tiny").verified == Verified.NO
    for ask in (lambda: made.path("tiny", "a.bin"), lambda: made.verify("tiny")):
        with pytest.raises(HashMismatch, match=sha(WRONG)):
            ask()
    assert made.fetch("tiny").verified == Verified.YES  # replaced
    assert target.read_bytes() == DATA
    target.write_bytes(WRONG)  # changed afterwards
    with pytest.raises(HashMismatch):
        made.path("tiny", "a.bin")
    target.write_bytes(DATA)
    assert made.verify("tiny").verified == Verified.YES
    assert packs(tmp_path, *made.manifests.values()).status("tiny").verified == Verified.YES


def test_a_new_promise_in_the_manifest_makes_the_old_file_wrong(tmp_path):
    packs(tmp_path, pack(folder_source(tmp_path))).fetch("tiny")
    newer = packs(tmp_path, pack(folder_source(tmp_path, WRONG), data=WRONG))
    assert newer.status("tiny").verified == Verified.NO
    with pytest.raises(HashMismatch):
        newer.path("tiny", "a.bin")
    newer.fetch("tiny")
    assert newer.path("tiny", "a.bin").read_bytes() == WRONG


def test_first_use_is_trusted_shown_and_held_to(tmp_path):
    made = packs(tmp_path, pack(folder_source(tmp_path), unverified=True))
    with pytest.raises(PackMissing):
        made.revision("tiny")
    assert made.fetch("tiny").verified == Verified.UNVERIFIED
    assert made.verify("tiny").verified == Verified.UNVERIFIED
    assert made.revision("tiny")
    made.path("tiny", "a.bin").unlink()
    folder_source(tmp_path, WRONG)
    with pytest.raises(HashMismatch, match=sha(DATA)):
        made.fetch("tiny")
    folder_source(tmp_path, DATA)
    made.fetch("tiny")
    (tmp_path / "models" / "tiny" / "a.bin").write_bytes(WRONG)
    with pytest.raises(HashMismatch):
        made.path("tiny", "a.bin")


def test_a_damaged_record_says_so(tmp_path):
    made = packs(tmp_path, pack(folder_source(tmp_path)))
    made.fetch("tiny")
    (tmp_path / "models" / "tiny" / "fetched.json").write_text("[1]")
    with pytest.raises(PackError, match=r"fetched\.json"):
        made.status("tiny")


def test_revision_names_the_bytes_and_needs_no_download(tmp_path):
    one = packs(tmp_path, pack()).revision("tiny")
    assert one == packs(tmp_path / "elsewhere", pack()).revision("tiny")
    assert one != packs(tmp_path, pack(data=WRONG)).revision("tiny")
    assert len(one) == 12


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "full"), (errno.EROFS, "FACECHAIN_MODELS")])
def test_a_disk_that_refuses_leaves_nothing_half(tmp_path, monkeypatch, number, said):
    made = packs(tmp_path, pack(folder_source(tmp_path)))

    def refuse(*args):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("facechain.disk.os.fsync", refuse)
        with pytest.raises(StoreError, match=said):
            made.fetch("tiny")
    assert not (tmp_path / "models" / "tiny" / "a.bin").exists()
    assert made.fetch("tiny").verified == Verified.YES
    assert files_below(tmp_path / "models" / "tiny") == {"a.bin"}


def test_licences_of_a_combination(tmp_path):
    assert packs(tmp_path, pack()).licences(["tiny"]).commercial == "yes"


# ── hub ──────────────────────────────────────────────────────────────────────────────────────────


def test_hub_reports_bytes(tmp_path, hub):
    hub.files[HUB_PATH] = DATA
    seen = []
    status = packs(tmp_path, pack(FROM_HUB)).fetch("tiny", lambda *tick: seen.append(tick))
    assert status.source == "hub owner/name@12121212"
    done = [tick[1] for tick in seen if "hub" in tick[0]]
    assert done == sorted(done)
    assert done[-1] == len(DATA)
    assert {tick[2] for tick in seen} == {len(DATA)}


def test_a_cut_connection_goes_on_where_it_was(tmp_path, hub):
    hub.files[HUB_PATH] = DATA
    hub.cut_after_bytes = 300_000
    made = packs(tmp_path, pack(FROM_HUB))
    made.fetch("tiny")
    assert made.path("tiny", "a.bin").read_bytes() == DATA
    assert [asked[1] for asked in hub.asked] == ["", "bytes=300000-"]


def test_a_server_that_cannot_resume_is_asked_anew(tmp_path, hub):
    hub.files[HUB_PATH] = DATA
    hub.cut_after_bytes, hub.ranges = 300_000, False
    made = packs(tmp_path, pack(FROM_HUB))
    made.fetch("tiny")
    assert made.path("tiny", "a.bin").read_bytes() == DATA


def stop_after(done_bytes: int):
    def tick(stage: str, done: int, total: int) -> None:
        if done >= done_bytes:
            raise Cancelled

    return tick


def test_cancel_leaves_no_half_file_and_later_resumes(tmp_path, hub):
    hub.files[HUB_PATH] = DATA
    made = packs(tmp_path, pack(FROM_HUB))
    with pytest.raises(Cancelled):
        made.fetch("tiny", stop_after(400_000))
    assert not (tmp_path / "models" / "tiny" / "a.bin").exists()
    assert not made.status("tiny").present
    made.fetch("tiny")
    assert made.path("tiny", "a.bin").read_bytes() == DATA
    assert hub.asked[-1][1].startswith("bytes=")
    assert files_below(tmp_path / "models" / "tiny") == {"a.bin"}


def test_a_bad_beginning_is_thrown_away_once(tmp_path, hub):
    hub.files[HUB_PATH] = DATA
    made = packs(tmp_path, pack(FROM_HUB))
    with pytest.raises(Cancelled):
        made.fetch("tiny", stop_after(400_000))
    (part,) = (tmp_path / "models" / "tiny").glob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    made.fetch("tiny")
    assert made.path("tiny", "a.bin").read_bytes() == DATA


def test_wrong_bytes_of_a_hub_are_refused(tmp_path, hub):
    hub.files[HUB_PATH] = WRONG
    with pytest.raises(HashMismatch, match=sha(WRONG)):
        packs(tmp_path, pack(FROM_HUB)).fetch("tiny")
    assert files_below(tmp_path / "models" / "tiny") == set()


def test_an_endless_file_is_cut_off(tmp_path, hub):
    hub.files[HUB_PATH] = DATA * 8
    with pytest.raises(PackError, match="longer"):
        packs(tmp_path, pack(FROM_HUB)).fetch("tiny")


def test_a_missing_file_and_a_dead_hub_lead_to_the_next_source(tmp_path, hub, monkeypatch):
    source = folder_source(tmp_path)
    assert packs(tmp_path, pack(FROM_HUB, source)).fetch("tiny").source.startswith("folder")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert packs(tmp_path / "two", pack(FROM_HUB, source)).fetch("tiny").source.startswith("folder")
    with pytest.raises(PackError, match="cannot be reached"):
        packs(tmp_path / "three", pack(FROM_HUB)).fetch("tiny")


def test_the_token_goes_to_the_hub_and_no_further(tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    hub.redirects[HUB_PATH] = f"{hub.url}/storage"
    hub.files["/storage"] = DATA
    packs(tmp_path, pack(FROM_HUB)).fetch("tiny")
    assert [(path, token) for path, _, token in hub.asked] == [(HUB_PATH, "Bearer mine"), ("/storage", "")]


RUN = """
import sys
from pathlib import Path
from facechain.packs import Packs, read_packs
print(Packs(read_packs(Path(sys.argv[1])), Path(sys.argv[2])).fetch("tiny").verified)
"""


def start(tmp_path: Path) -> subprocess.Popen:
    """Another process fetching the same pack into the same folder."""
    configs = tmp_path / "configs"
    configs.mkdir(exist_ok=True)
    (configs / "tiny.toml").write_text(f"""
title = "A model"
role = "r"
family = "f"
licence = {{ name = "MIT", url = "https://example.org", commercial = "yes" }}
files = [{{ path = "a.bin", sha256 = "{sha(DATA)}", bytes = {len(DATA)} }}]
[[sources]]
kind = "hub"
repo = "owner/name"
revision = "{REVISION}"
members = {{ "a.bin" = "deep/a.bin" }}
""")
    command = [sys.executable, "-c", RUN, str(configs), str(tmp_path / "models")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_two_processes_share_one_download(tmp_path, hub):
    hub.files[HUB_PATH] = DATA
    hub.pause_seconds = 0.05
    both = [start(tmp_path), start(tmp_path)]
    assert [one.communicate(timeout=60)[0].strip() for one in both] == ["yes", "yes"]
    assert len(hub.asked) == 1
    assert packs(tmp_path, pack(FROM_HUB)).verify("tiny").verified == Verified.YES


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_leaves_no_half_file(tmp_path, hub):
    hub.files[HUB_PATH] = DATA
    hub.pause_seconds = 0.2
    process = start(tmp_path)
    until = time.monotonic() + 30
    while not any(part.stat().st_size for part in tmp_path.glob("models/tiny/*.part")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "models" / "tiny" / "a.bin").exists()
    hub.pause_seconds = 0.0
    made = packs(tmp_path, pack(FROM_HUB))
    made.fetch("tiny")
    assert hub.asked[-1][1].startswith("bytes=")
    assert made.path("tiny", "a.bin").read_bytes() == DATA


# ── pip ──────────────────────────────────────────────────────────────────────────────────────────


def test_packs_of_one_wheel_share_its_download(tmp_path, wheels):
    archive = wheel(wheels, {"m/one.bin": DATA, "m/two.bin": WRONG})
    one = pack(from_pip(archive, "m/one.bin"), id="one")
    two = pack(from_pip(archive, "m/two.bin"), id="two", data=WRONG)
    made = packs(tmp_path, one, two)
    assert made.fetch("one").source == "pypi tiny_model 1.0"
    archive.unlink()
    made.fetch("two")
    assert made.path("one", "a.bin").read_bytes() == DATA
    assert made.path("two", "a.bin").read_bytes() == WRONG
    made.drop_archives()
    assert files_below(tmp_path / "models" / ".archives") == set()
    assert made.path("one", "a.bin").is_file()


def test_an_sdist_gives_its_member(tmp_path, wheels, monkeypatch):
    monkeypatch.setenv("SETUP_RAN", str(tmp_path / "ran"))
    archive = sdist(wheels, {"m/a.bin": DATA})
    made = packs(tmp_path, pack(from_pip(archive, "tiny_model-1.0/m/a.bin", "sdist")))
    made.fetch("tiny")
    assert made.path("tiny", "a.bin").read_bytes() == DATA


def test_no_code_of_an_unverified_sdist_runs(tmp_path, wheels, monkeypatch):
    monkeypatch.setenv("SETUP_RAN", str(tmp_path / "ran"))
    archive = sdist(wheels, {"m/a.bin": DATA})
    source = from_pip(archive, "tiny_model-1.0/m/a.bin", "sdist", sha256="cd" * 32)
    with pytest.raises(HashMismatch) as caught:
        packs(tmp_path, pack(source)).fetch("tiny")
    assert sha(archive.read_bytes()) in str(caught.value)
    assert "cd" * 32 in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_package_that_is_not_there_gives_pips_reason(tmp_path, wheels):
    archive = wheel(tmp_path, {"m/a.bin": DATA})  # not where pip looks
    with pytest.raises(PackError, match=r"tiny_model==1\.0"):
        packs(tmp_path, pack(from_pip(archive, "m/a.bin"))).fetch("tiny")
    assert files_below(tmp_path / "models") == {"tiny.lock", f"{sha(archive.read_bytes())[:16]}.lock"}


def test_cancel_stops_pip_and_leaves_nothing(tmp_path, wheels):
    archive = wheel(wheels, {"m/a.bin": DATA})
    made = packs(tmp_path, pack(from_pip(archive, "m/a.bin")))
    with pytest.raises(Cancelled):
        made.fetch("tiny", stop_after(0))
    assert not [name for name in files_below(tmp_path / "models") if not name.endswith(".lock")]
    assert made.fetch("tiny").verified == Verified.YES


# ── npm ──────────────────────────────────────────────────────────────────────────────────────────


def from_npm(archive: Path) -> NpmSource:
    data = archive.read_bytes()
    members = {"a.bin": "package/a.bin"}
    return NpmSource(name="@some/tiny", version="1.0.0", sha256=sha(data), bytes=len(data), members=members)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for npm")
def test_npm_packs_without_running_scripts(tmp_path, monkeypatch):
    archive = tarball(tmp_path / "some-tiny-1.0.0.tgz", {"package/a.bin": DATA})
    tools = tmp_path / "tools"
    tools.mkdir()
    npm = tools / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nfor last; do :; done\n/bin/cp {archive} "$last"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    made = packs(tmp_path, pack(from_npm(archive)))
    assert made.fetch("tiny").source == "npm @some/tiny 1.0.0"
    said = (tmp_path / "said").read_text()
    assert "pack @some/tiny@1.0.0" in said
    assert "--ignore-scripts" in said


def test_without_npm_the_registry_is_asked(tmp_path, hub, monkeypatch):
    archive = tarball(tmp_path / "x.tgz", {"package/a.bin": DATA})
    hub.files["/registry/@some/tiny/-/tiny-1.0.0.tgz"] = archive.read_bytes()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{hub.url}/registry/")
    made = packs(tmp_path, pack(from_npm(archive)))
    assert made.fetch("tiny").verified == Verified.YES
    hub.files["/registry/@some/tiny/-/tiny-1.0.0.tgz"] = archive.read_bytes()[:-1] + b"x"
    with pytest.raises(HashMismatch, match="archive of npm"):
        packs(tmp_path / "two", *made.manifests.values()).fetch("tiny")


# ── offline ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("the network was touched")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline_opens_no_socket(tmp_path, no_network, monkeypatch, by_environment):
    if by_environment:
        monkeypatch.setenv("FACECHAIN_OFFLINE", "1")
    archive = tarball(tmp_path / "x.tgz", {"package/a.bin": DATA})
    sources = (FROM_HUB, from_npm(archive), from_pip(archive, "package/a.bin"))
    with pytest.raises(PackMissing, match="offline"):
        packs(tmp_path, pack(*sources), offline=not by_environment).fetch("tiny")
    made = packs(tmp_path, pack(*sources, folder_source(tmp_path)), offline=not by_environment)
    assert made.fetch("tiny").verified == Verified.YES
    assert made.verify("tiny").verified == Verified.YES


def test_offline_uses_an_archive_that_is_kept(tmp_path, no_network):
    archive = tarball(tmp_path / "x.tgz", {"package/a.bin": DATA})
    source = from_npm(archive)
    kept = tmp_path / "models" / ".archives" / source.sha256
    kept.parent.mkdir(parents=True)
    kept.write_bytes(archive.read_bytes())
    assert packs(tmp_path, pack(source), offline=True).fetch("tiny").verified == Verified.YES
    kept.write_bytes(b"something else")  # a damaged one is no excuse
    with pytest.raises(PackMissing):
        packs(tmp_path, pack(source, id="again"), offline=True).fetch("again")


def test_several_files_are_recorded_one_by_one(tmp_path):
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    names = ("a.bin", "sub/b.bin")
    for name in names:
        (tmp_path / "mine" / name).write_bytes(name.encode())
    files = tuple(PackFile(path=name, sha256=sha(name.encode()), bytes=len(name)) for name in names)
    source = LocalSource(folder=str(tmp_path / "mine"), members={name: name for name in names})
    one = pack(source)
    two = Pack(id="two", title="t", role="r", family="f", licence=one.licence, files=files, sources=(source,))
    (tmp_path / "mine" / "sub" / "b.bin").write_bytes(b"broken")
    made = packs(tmp_path, two)
    with pytest.raises(HashMismatch):
        made.fetch("two")
    assert list(json.loads((tmp_path / "models" / "two" / "fetched.json").read_text())) == ["a.bin"]
    (tmp_path / "mine" / "sub" / "b.bin").write_bytes(b"sub/b.bin")
    assert made.fetch("two").verified == Verified.YES
    assert made.path("two", "sub/b.bin").read_bytes() == b"sub/b.bin"
