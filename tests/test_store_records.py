"""The database follows the folders, whatever happened to it."""

import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest
from store_kit import keep, person, portrait, verdict

from facechain.errors import StoreError
from facechain.store import records
from facechain.store.workspace import Workspace
from facechain.types import Score, Verdict


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    workspace.save_person("ada", person("Ada"), [])
    workspace.save_person("bob", person("Bob", 9), [])
    run = workspace.new_run("ada")
    keep(workspace, run, portrait("1-0000"))
    keep(workspace, run, portrait("1-0001", ("Ada", "Bob")))
    assert _ids(workspace) == ["1-0001", "1-0000"]
    return workspace


def _ids(workspace: Workspace, slug: str | None = None) -> list[str]:
    return [kept.id for kept in workspace.portraits(slug)]


def _database(workspace: Workspace) -> Path:
    return workspace.folder / "records.sqlite"


def _count(workspace: Workspace, table: str) -> int:
    with sqlite3.connect(_database(workspace)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_by_person(workspace: Workspace) -> None:
    assert _ids(workspace, "bob") == ["1-0001"]
    assert _ids(workspace, "ada") == ["1-0001", "1-0000"]
    assert workspace.portraits("bob")[0].verdicts == (verdict("Ada"), verdict("Bob"))


@pytest.mark.parametrize("damage", ["missing", "not a database", "empty", "other tables"])
def test_a_database_that_is_no_use_is_made_anew(workspace: Workspace, damage: str) -> None:
    database = _database(workspace)
    database.unlink()
    if damage == "not a database":
        database.write_bytes(b"What is this? " * 1000)
    elif damage == "empty":
        database.touch()
    elif damage == "other tables":
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE portraits (file TEXT, stamp TEXT, colour TEXT)")
            connection.execute("INSERT INTO portraits VALUES ('x', 'y', 'blue')")
    assert _ids(workspace) == ["1-0001", "1-0000"]
    assert (_count(workspace, "people"), _count(workspace, "portraits"), _count(workspace, "verdicts")) == (2, 2, 3)


def test_a_refused_write_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: the index is read from memory, and its file left as it is."""
    Workspace(tmp_path).save_person("ada", person("Ada"), [])
    with sqlite3.connect(tmp_path / "records.sqlite") as connection:
        connection.execute("CREATE TABLE others (one TEXT)")
    before = (tmp_path / "records.sqlite").read_bytes()

    def prepared(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        if connection.execute("PRAGMA database_list").fetchone()[2]:  # not one in memory
            connection.execute("PRAGMA max_page_count=2")

    monkeypatch.setattr(records, "_prepared", prepared)
    workspace = Workspace(tmp_path)
    keep(workspace, workspace.new_run("ada"), portrait("1-0000"))
    with monkeypatch.context() as patch:
        patch.setattr(records.Records, "behind", lambda self: False)
        with pytest.raises(StoreError, match=r"index"):
            workspace.portraits()
    assert [kept.id for kept in workspace.portraits()] == ["1-0000"]
    with pytest.raises(StoreError, match=r"disk .* is full"):
        workspace.rebuild()
    assert (tmp_path / "records.sqlite").read_bytes() == before
    assert not list(tmp_path.glob("*.damaged-*"))
    workspace.forget("ada")
    assert not list(tmp_path.glob("*.sqlite*"))  # it could not be changed, and can be made anew


def test_what_is_no_database_is_set_aside_until_somebody_is_forgotten(workspace: Workspace) -> None:
    _database(workspace).write_bytes(b"A letter to Ada. " * 100)
    assert _ids(workspace) == ["1-0001", "1-0000"]
    (aside,) = workspace.folder.glob("records.sqlite.damaged-*")
    assert aside.read_bytes() == b"A letter to Ada. " * 100
    workspace.forget("bob")
    assert not aside.exists()


def test_an_older_database_catches_up(workspace: Workspace) -> None:
    old = _database(workspace).read_bytes()
    run = workspace.new_run("bob")
    keep(workspace, run, portrait("2-0000", ("Bob",)))
    workspace.save_verdicts(run, "2-0000", ())
    assert _ids(workspace)[0] == "2-0000"
    _database(workspace).write_bytes(old)
    assert _ids(workspace)[0] == "2-0000"
    assert workspace.portraits()[0].verdicts == ()


def test_what_was_deleted_by_hand_is_gone(workspace: Workspace) -> None:
    workspace.portraits()[0].path.unlink()
    assert _ids(workspace) == ["1-0000"]
    assert _count(workspace, "verdicts") == 1


def test_rebuild(workspace: Workspace) -> None:
    before = _ids(workspace)
    workspace.rebuild()
    assert (_ids(workspace), _count(workspace, "people")) == (before, 2)


def test_another_database(tmp_path: Path) -> None:
    url = f"sqlite:///{(tmp_path / 'elsewhere.db').as_posix()}"
    workspace = Workspace(tmp_path / "workspace", url)
    workspace.save_person("ada", person("Ada"), [])
    keep(workspace, workspace.new_run("ada"), portrait())
    assert _ids(workspace) == ["7-0000"]
    assert not _database(workspace).exists()
    workspace.forget("ada")
    assert b"Ada" not in (tmp_path / "elsewhere.db").read_bytes()


def test_reading_twice_writes_once(workspace: Workspace) -> None:
    before = _database(workspace).stat().st_mtime_ns
    assert _ids(workspace) == ["1-0001", "1-0000"]
    assert _database(workspace).stat().st_mtime_ns == before


def test_verdicts_of_before_evidence_was_told_are_read():
    new = verdict("Ada")
    told = {**asdict(new), "scores": [asdict(Score(recogniser="a", likeness=0.5, normalised=0.1))], "llr": 3.0}
    old = {key: value for key, value in asdict(new).items() if key in list(asdict(new))[:13]}
    assert Verdict.read(old) == new
    assert Verdict.read({**told, "of a later version": 1}).scores == (
        Score(recogniser="a", likeness=0.5, normalised=0.1),
    )
