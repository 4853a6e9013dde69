"""The table of jobs, in the same database file as the workspace's index.

The index can be made anew from the folders, jobs cannot: nothing here is dropped except by `forget`. As the index
does, it keeps no second file (journal_mode) and overwrites what it frees, so that forgetting reaches the bytes.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facechain import disk
from facechain.errors import StoreError
from facechain.types import Job, JobState

BUSY_SECONDS = 60

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival; pages are cut by it
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    people TEXT NOT NULL,  -- JSON list of slugs: whose data this row holds
    key TEXT NOT NULL,  -- given by who asked, so that asking twice makes one job
    asked TEXT NOT NULL,  -- digest of what was asked under that key
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    place REAL NOT NULL,  -- order among the owner's waiting jobs
    stage TEXT NOT NULL DEFAULT '',
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    eta_s REAL,
    preview TEXT,
    cancelling INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    error TEXT NOT NULL DEFAULT '',
    next_step TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 1,
    worker TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    started REAL,
    seen REAL,
    ended REAL
)
"""
_INDEXES = (
    "CREATE UNIQUE INDEX IF NOT EXISTS jobs_key ON jobs (owner, key) WHERE key <> ''",
    "CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, owner, place)",
)


class Database:
    """Short transactions on the jobs table. Raises StoreError when the file cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "records.sqlite"

    def there(self) -> bool:
        return self.path.exists()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone from its first line: what it reads is still true when it writes."""
        with disk.errors(self.folder, "FACECHAIN_WORKSPACE"):
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(_TABLE)
                for index in _INDEXES:
                    connection.execute(index)
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.Error as error:
            raise StoreError(f"The records cannot be used: {error}.", "Check the workspace folder.") from error


def has_table(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'jobs'").fetchone())


def job_of(row: sqlite3.Row, position: int | None) -> Job:
    values: dict[str, Any] = {name: row[name] for name in ("id", "kind", "owner", "stage", "done", "total", "preview")}
    return Job(
        **values,
        arguments=json.loads(row["arguments"]),
        state=JobState(row["state"]),
        position=position,
        eta_s=_left(row),
        cancelling=bool(row["cancelling"]),
        result=json.loads(row["result"]) if row["result"] else None,
        error=row["error"],
        next_step=row["next_step"],
        attempt=row["attempt"],
        created=datetime.fromtimestamp(row["created"], UTC),
        started=_time(row["started"]),
        seen=_time(row["seen"]),
        ended=_time(row["ended"]),
    )


def _left(row: sqlite3.Row) -> float | None:
    return row["eta_s"] if row["state"] == JobState.RUNNING else None


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
