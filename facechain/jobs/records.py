"""The table of jobs, in a database file of its own: unlike the workspace's index, it cannot be made anew.

Nothing here is dropped except by `retention`. A damaged file is set aside and what can be read of it copied into a new
one; columns that an earlier version did not have are added. It keeps no second file (journal_mode) and overwrites what
it frees (secure_delete), so that forgetting reaches the bytes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facechain import disk
from facechain.errors import StoreError
from facechain.types import Job, JobState

BUSY_SECONDS = 60

_log = logging.getLogger("facechain.jobs")

_KEYS = {
    "number": "INTEGER PRIMARY KEY AUTOINCREMENT",  # order of arrival; pages are cut by it
    "id": "TEXT NOT NULL UNIQUE",
}
_COLUMNS = _KEYS | {
    "kind": "TEXT NOT NULL DEFAULT ''",
    "owner": "TEXT NOT NULL DEFAULT ''",
    "people": "TEXT NOT NULL DEFAULT '[]'",  # JSON list of slugs: whose data this row holds
    "key": "TEXT NOT NULL DEFAULT ''",  # given by who asked, so that asking twice makes one job
    "asked": "TEXT NOT NULL DEFAULT ''",  # digest of what was asked under that key
    "arguments": "TEXT NOT NULL DEFAULT '{}'",
    "generation": "TEXT NOT NULL DEFAULT ''",  # of the owner's workspace when it was submitted
    "state": "TEXT NOT NULL DEFAULT 'failed'",
    "place": "REAL NOT NULL DEFAULT 0",  # order among the owner's waiting jobs
    "stage": "TEXT NOT NULL DEFAULT ''",
    "done": "INTEGER NOT NULL DEFAULT 0",
    "total": "INTEGER NOT NULL DEFAULT 0",
    "eta_s": "REAL",
    "preview": "TEXT",
    "cancelling": "INTEGER NOT NULL DEFAULT 0",
    "result": "TEXT",
    "error": "TEXT NOT NULL DEFAULT ''",
    "next_step": "TEXT NOT NULL DEFAULT ''",
    "attempt": "INTEGER NOT NULL DEFAULT 1",
    "worker": "TEXT NOT NULL DEFAULT ''",
    "created": "REAL NOT NULL DEFAULT 0",
    "started": "REAL",
    "seen": "REAL",
    "ended": "REAL",
}
_TABLE = f"CREATE TABLE IF NOT EXISTS jobs ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})"
_INDEXES = (
    "CREATE UNIQUE INDEX IF NOT EXISTS jobs_key ON jobs (owner, key) WHERE key <> ''",
    "CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, owner, place)",
)


_HEADER_BYTES = 100  # of an SQLite file
_PAGE_BYTES = 4096


class Database:
    """Short transactions on the jobs table. Raises StoreError when the file cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "jobs.sqlite"
        self._index = folder / "records.sqlite"  # where jobs were kept once

    def there(self) -> bool:
        if not self.path.exists() and self._index.exists() and _holds_jobs(self._index):
            self._move_out_of_index()
        return self.path.exists()

    def damaged(self) -> list[Path]:
        """Files set aside."""
        return sorted(self.folder.glob(f"{self.path.name}{disk.DAMAGED}*"))

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone from its first line: what it reads is still true when it writes."""
        with disk.errors(self.folder, "FACECHAIN_WORKSPACE"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.there():
                self.path.touch(mode=0o600)
        with self._connection() as connection:
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("BEGIN IMMEDIATE")
            try:
                _create(connection)
                yield connection
            except BaseException:
                if connection.in_transaction:  # SQLite has ended it itself for some errors
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self.checked(), contextlib.closing(self._opened()) as connection:
            yield connection

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Raises StoreError for what SQLite refuses; a damaged file is repaired then."""
        try:
            yield
        except sqlite3.Error as error:
            if not disk.is_damage(error):
                raise disk.refused(error, self.folder) from error
            raise StoreError(self._repair(), "Run it again: it goes on with the jobs that were saved.") from error

    def _opened(self) -> sqlite3.Connection:
        """With every column; one that cannot be opened or completed is repaired first."""
        connection = _connect(self.path)
        try:
            there = _columns(connection)
            if there and not there >= set(_COLUMNS):
                _complete(connection)
            return connection
        except sqlite3.Error as error:
            connection.close()
            if not disk.is_damage(error):
                raise
            self._repair()
            return _connect(self.path)

    def _repair(self) -> str:
        """Saves what can be read of a damaged file into a new one; says what was done."""
        with disk.errors(self.folder, "FACECHAIN_WORKSPACE"), disk.locked(self.folder / ".jobs.lock"):
            if _is_sound(self.path):  # another process was here first
                return "The file of the jobs was damaged and has been repaired."
            rows = _saved(self.path)
            journal = self.path.with_name(f"{self.path.name}-journal")
            aside = disk.set_aside(self.path)
            if journal.exists():  # it belongs to the old file; beside the new one it would be played into that
                journal.replace(aside.with_name(f"{aside.name}-journal"))
            self._write(rows)
        said = f"The file of the jobs was damaged: {len(rows)} jobs were saved, the old file is kept as {aside.name}."
        _log.warning("%s", said)
        return said

    def _move_out_of_index(self) -> None:
        with disk.errors(self.folder, "FACECHAIN_WORKSPACE"), disk.locked(self.folder / ".jobs.lock"):
            if self.path.exists() or not _holds_jobs(self._index):
                return
            if rows := _saved(self._index):
                self._write(rows)
            with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(self._index)) as connection:
                tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                connection.execute("PRAGMA secure_delete=ON")
                for name in {"jobs", "kv", "schedule", "task"} & {row["name"] for row in tables}:
                    connection.execute(f"DROP TABLE {name}")

    def _write(self, rows: Iterable[dict[str, Any]]) -> None:
        """A new file with these jobs, whole or not at all."""
        part = self.path.with_name(f".{self.path.name}.part")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        with contextlib.closing(_connect(part)) as connection:
            _create(connection)
            for row in rows:
                known = {name: value for name, value in row.items() if name in _COLUMNS and value is not None}
                marks = ", ".join("?" * len(known))
                connection.execute(
                    f"INSERT OR IGNORE INTO jobs ({', '.join(known)}) VALUES ({marks})", tuple(known.values())
                )
        disk.move(part, self.path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    for index in _INDEXES:
        connection.execute(index)


def _columns(connection: sqlite3.Connection) -> set[str]:
    """Of the jobs table; none where there is none yet."""
    return {row["name"] for row in connection.execute("PRAGMA table_info(jobs)")}


def _complete(connection: sqlite3.Connection) -> None:
    """Adds what an earlier version's table lacks. Raises sqlite3.Error, as for a damaged file, for one of others."""
    connection.execute("BEGIN IMMEDIATE")
    missing = set(_COLUMNS) - _columns(connection)  # again: another process may have added them
    if missing & set(_KEYS):
        error = sqlite3.DatabaseError("the table of jobs is not ours")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    for name in sorted(missing):
        connection.execute(f"ALTER TABLE jobs ADD COLUMN {name} {_COLUMNS[name]}")
    connection.execute("COMMIT")


def _is_sound(path: Path) -> bool:
    try:
        with contextlib.closing(_connect(path)) as connection:
            columns = _columns(connection)
            whole = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            return whole and (not columns or set(_KEYS) <= columns)
    except sqlite3.Error:
        return False


def _holds_jobs(path: Path) -> bool:
    """Also when a damaged file may hold some."""
    try:
        with contextlib.closing(_connect(path)) as connection:
            return bool(_columns(connection))
    except sqlite3.Error as error:
        return disk.is_damage(error)


def _saved(path: Path) -> list[dict[str, Any]]:
    """The jobs that can still be read, also when the file's header is damaged."""
    if rows := _readable(path):
        return rows
    copy = path.with_name(f".{path.name}.copy")
    copy.touch(mode=0o600)
    try:
        data = path.read_bytes()
        disk.write(copy, _header(len(data)) + data[_HEADER_BYTES:])
        return _readable(copy)
    finally:
        copy.unlink(missing_ok=True)


def _header(size: int) -> bytes:
    """That of a sound SQLite file of so many bytes, as all of ours are: https://www.sqlite.org/fileformat.html"""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        connection.execute("CREATE TABLE any (one)")
        fresh = connection.serialize()
    pages = (size // _PAGE_BYTES).to_bytes(4, "big")
    return fresh[:28] + pages + fresh[32:_HEADER_BYTES]


def _readable(path: Path) -> list[dict[str, Any]]:
    """From both ends, so that a damaged page costs no more than what is on it."""
    rows: dict[int, dict[str, Any]] = {}
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(path)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        for direction in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error, IndexError):
                for row in connection.execute(f"SELECT * FROM jobs ORDER BY number {direction}"):
                    rows[row["number"]] = dict(row)
    return [rows[number] for number in sorted(rows)]


def has_table(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'jobs'").fetchone())


def job_of(row: sqlite3.Row, position: int | None) -> Job:
    """A row that says what no job of ours does is shown as a failed one."""
    names = ("id", "kind", "owner", "stage", "done", "total", "preview", "error", "next_step", "attempt", "generation")
    values: dict[str, Any] = {name: row[name] for name in names}
    try:
        arguments, state = json.loads(row["arguments"]), JobState(row["state"])
        result = json.loads(row["result"]) if row["result"] else None
    except (TypeError, ValueError):
        arguments, state, result = {}, JobState.FAILED, None
        values |= {"error": "The record of this job is damaged.", "next_step": "Submit it again."}
    return Job(
        **values,
        arguments=arguments,
        state=state,
        position=position,
        eta_s=_left(row),
        cancelling=bool(row["cancelling"]),
        result=result,
        created=datetime.fromtimestamp(row["created"], UTC),
        started=_time(row["started"]),
        seen=_time(row["seen"]),
        ended=_time(row["ended"]),
    )


def _left(row: sqlite3.Row) -> float | None:
    return row["eta_s"] if row["state"] == JobState.RUNNING else None


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
