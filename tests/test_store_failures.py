"""A full disk, a read-only folder, a killed process: a clear error, and nothing half-done or lost."""

import contextlib
import errno
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from PIL import Image
from store_kit import files, keep, person, portrait

from facechain import disk
from facechain.errors import StoreError
from facechain.store.workspace import Workspace


def _refuse(number: int, after: int) -> Callable[[int], None]:
    left = iter(range(after))

    def fsync(_: int) -> None:
        if next(left, None) is None:
            raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("after", range(7))  # the flushes before a person is moved into place
@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "full.*Free some space"), (errno.EROFS, "cannot be written.*FACECHAIN_WORKSPACE")],
)
def test_a_disk_that_refuses_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str, after: int
) -> None:
    workspace = Workspace(tmp_path)
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")
    keep(workspace, run, portrait())
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _refuse(number, after))
        with pytest.raises(StoreError, match=says):
            workspace.save_person("eve", person("Eve", 5), [])
    assert files(tmp_path) == before
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _refuse(number, after % 3))
        with pytest.raises(StoreError, match=says):
            keep(workspace, run, portrait("7-0001"))
    assert [kept.id for kept in workspace.portraits()] == ["7-0000"]
    workspace.save_person("eve", person("Eve", 5), [])  # and with space again it works


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")

    def write(to: Path) -> None:
        to.write_bytes(b"half a pict")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = files(tmp_path)
    with pytest.raises(StoreError, match="full"):
        workspace.save_portrait(run, portrait(), (), "png", write)
    assert files(tmp_path) == before


def test_a_read_only_workspace_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    workspace.save_person("ada", person(), [])
    keep(workspace, workspace.new_run("ada"), portrait())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    workspace = Workspace(tmp_path)
    assert [person.slug for person in workspace.list_people()] == ["ada"]
    assert [kept.id for kept in workspace.portraits("ada")] == ["7-0000"]
    assert workspace.load_person("ada").name == "Ada"
    with pytest.raises(StoreError, match="FACECHAIN_WORKSPACE"):
        workspace.forget("ada")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="FACECHAIN_WORKSPACE"):
        Workspace(tmp_path / "workspace").save_person("ada", person(), [])


def test_leftovers_go_when_the_workspace_is_opened(tmp_path: Path) -> None:
    Workspace(tmp_path).save_person("ada", person(), [])
    staging = tmp_path / ".staging"
    for name in ("dead", "alive"):
        (staging / name).mkdir()
        (staging / name / "person.json").write_text("half")
    (staging / "dead.lock").touch()
    with disk.locked(staging / "alive.lock"):
        Workspace(tmp_path)
        assert {path.name for path in staging.iterdir()} == {"alive", "alive.lock"}
    Workspace(tmp_path)
    assert not list(staging.iterdir())


def test_waiting_for_a_writer_ends(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with (
        disk.locked(lock),
        pytest.raises(StoreError, match="Another process"),
        disk.locked(lock, patience_seconds=0.05),
    ):
        pass


# Processes start from a warm one where the system can fork.
FRESH = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
FRESH.set_forkserver_preload(["facechain.store.records"])


def _write(folder: Path, rounds: int, under_way: Connection) -> None:
    """Saves people and portraits, lists them, and forgets every second person."""
    workspace = Workspace(folder)
    for n in range(rounds):
        slug = f"w{os.getpid()}-{n}"
        workspace.save_person(slug, person(slug, n, side_px=96), [])
        run = workspace.new_run(slug)
        for m in range(3):
            keep(workspace, run, portrait(f"{n}-{m}", (slug,)))
        workspace.portraits()
        if n % 2:
            workspace.forget(slug)
        under_way.send(n)


@contextlib.contextmanager
def _writer(folder: Path, rounds: int) -> Iterator[BaseProcess]:
    """A process that is writing by now."""
    here, there = FRESH.Pipe()
    process = FRESH.Process(target=_write, args=(folder, rounds, there))
    process.start()
    here.recv()
    yield process
    process.join()


def _assert_whole(workspace: Workspace) -> None:
    for known in workspace.list_people():
        assert len(workspace.load_person(known.slug).crops) == 2
    for kept in workspace.portraits():
        with Image.open(kept.path) as picture:
            picture.load()
        assert kept.people == (kept.slug,)
    staging = workspace.folder / ".staging"
    assert not staging.exists() or not any(staging.iterdir())


def test_a_killed_process_leaves_nothing_half(tmp_path: Path) -> None:
    chance = random.Random(1)
    for _ in range(5):
        with _writer(tmp_path, 1000) as one, _writer(tmp_path, 1000) as other:
            for process in (one, other):
                time.sleep(chance.uniform(0, 0.2))
                process.kill()
        _assert_whole(Workspace(tmp_path))
    workspace = Workspace(tmp_path)
    for known in workspace.list_people():
        workspace.forget(known.slug)
    assert workspace.portraits() == ()
    assert not list((tmp_path / "people").iterdir())


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    with _writer(tmp_path, 6) as one, _writer(tmp_path, 6) as other:
        pass
    assert (one.exitcode, other.exitcode) == (0, 0)
    workspace = Workspace(tmp_path)
    _assert_whole(workspace)
    assert len(workspace.list_people()) == 6
    assert len(workspace.portraits()) == 18
