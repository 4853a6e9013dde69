"""Jobs outlive a damaged file, an earlier version's file and a disk that refuses; each is told as what it is."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from test_jobs_queue import drain, open_jobs

from facechain.errors import StoreError
from facechain.jobs.queue import Jobs
from facechain.store.workspace import Workspace
from facechain.types import JobState


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return open_jobs(tmp_path / "workspace")


def ids(jobs: Jobs) -> list[str]:
    return sorted(job.id for job in jobs.list(limit=1000))


def submit(jobs: Jobs, tmp_path: Path, count: int, note: str = "") -> list[str]:
    return sorted(jobs.submit("count", {"to": str(tmp_path), "fail": note}).id for _ in range(count))


@pytest.mark.parametrize("header", [b"\0" * 100, b"What is this? " * 8, b"SQLite format 3\0" + b"\xff" * 84])
def test_a_damaged_header_costs_no_job(jobs, tmp_path, caplog, header):
    before = submit(jobs, tmp_path, 30)
    data = jobs.database.path.read_bytes()
    jobs.database.path.write_bytes(header[:100] + data[100:])
    with caplog.at_level(logging.WARNING):
        assert ids(jobs) == before
    (aside,) = jobs.database.damaged()
    assert aside.read_bytes()[100:] == data[100:]
    assert f"30 jobs were saved, the old file is kept as {aside.name}" in caplog.text
    assert drain(jobs) == 30


def test_a_damaged_page_costs_what_is_on_it_and_is_told(jobs, tmp_path):
    before = submit(jobs, tmp_path, 60, note="long" * 200)
    data = bytearray(jobs.database.path.read_bytes())
    page = next(
        at for at in range(8192, len(data), 4096) if data[at] == 13 and data.count(b"long", at, at + 4096) > 300
    )
    data[page : page + 4096] = b"\xee" * 4096
    jobs.database.path.write_bytes(data)
    with pytest.raises(StoreError, match=r"\d+ jobs were saved.*Run it again"):
        ids(jobs)
    left = ids(jobs)
    assert len(before) - 6 <= len(left) < len(before)
    assert set(left) <= set(before)
    submit(jobs, tmp_path, 1)


def test_what_is_no_database_is_set_aside(jobs, tmp_path):
    submit(jobs, tmp_path, 1)
    jobs.database.path.write_bytes(b"A letter. " * 1000)
    assert ids(jobs) == []
    assert [path.read_bytes() for path in jobs.database.damaged()] == [b"A letter. " * 1000]
    assert len(submit(jobs, tmp_path, 1)) == 1
    jobs.forget("", "zerlina")
    assert jobs.database.damaged() == []  # who is forgotten could be in it


@pytest.mark.parametrize("column", ["generation", "next_step", "ended", "eta_s"])
def test_a_column_that_is_missing_is_added(jobs, tmp_path, column):
    before = submit(jobs, tmp_path, 2)
    with closing(sqlite3.connect(jobs.database.path)) as connection:
        connection.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    assert ids(jobs) == before
    assert drain(jobs) == 2
    assert {job.state for job in jobs.list()} == {JobState.DONE}


def test_jobs_kept_in_the_index_by_an_earlier_version_move_out(jobs, tmp_path):
    before = submit(jobs, tmp_path, 3)
    jobs.database.path.rename(jobs.folder / "records.sqlite")
    with closing(sqlite3.connect(jobs.folder / "records.sqlite")) as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN generation")
    again = open_jobs(jobs.folder)
    assert ids(again) == before
    with closing(sqlite3.connect(jobs.folder / "records.sqlite")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'jobs'").fetchone() is None
    (jobs.folder / "people").mkdir()
    assert Workspace(jobs.folder).portraits() == ()
    assert drain(again) == 3


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (sqlite3.SQLITE_FULL, "disk holding .* is full.*Free some space"),
        (sqlite3.SQLITE_IOERR | 3 << 8, "disk I/O error.*Check the disk"),
        (sqlite3.SQLITE_READONLY, "cannot be written.*FACECHAIN_WORKSPACE"),
        (sqlite3.SQLITE_BUSY, "Another process.*Try again"),
    ],
)
def test_what_the_disk_refuses_is_told_and_deletes_nothing(jobs, tmp_path, monkeypatch, code, says):
    before = submit(jobs, tmp_path, 2)
    workspace = Workspace(jobs.folder)
    (jobs.folder / "people").mkdir()
    assert workspace.portraits() == ()

    class Refusing(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement.startswith(("BEGIN IMMEDIATE", "DROP")):
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = code
                raise error
            return super().execute(statement, *values)

    def connect(*given, **named):
        return opened(*given, **{**named, "factory": Refusing})

    opened = sqlite3.connect
    files = sorted(path.name for path in jobs.folder.glob("*.sqlite*"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        with pytest.raises(StoreError, match=says):
            submit(jobs, tmp_path, 1)
        assert drain(jobs) == 0  # a worker waits for better times
    assert ids(jobs) == before
    assert sorted(path.name for path in jobs.folder.glob("*.sqlite*")) == files


def test_a_row_that_makes_no_sense_stops_nothing(jobs, tmp_path):
    first, second = (jobs.submit("count", {"to": str(tmp_path), "who": who}).id for who in ("Zerlina", "Ada"))
    with jobs.database.writing() as connection:
        connection.execute("UPDATE jobs SET arguments = '{', people = 'zerl' WHERE id = ?", (first,))
    assert {job.id: job.state for job in jobs.list()}[first] is JobState.FAILED
    assert drain(jobs) == 2
    assert jobs.get(second).state is JobState.DONE
    assert jobs.forget("", "zerlina") == 1  # who it was about cannot be told, so it may be them
    assert ids(jobs) == [second]
