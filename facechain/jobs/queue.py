"""Jobs as everybody sees them: ask for one, look, stop, try again. Who does them is in worker.py.

huey carries one message a waiting job from whoever asks to whichever worker is free; which job that worker then takes
is decided by line.py, and what became of it is in records.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facechain.errors import Conflict, Missing, UserError
from facechain.jobs import kinds as known
from facechain.jobs import retention
from facechain.jobs.bell import Bell
from facechain.jobs.kinds import Hands, Kind
from facechain.jobs.line import waiting
from facechain.jobs.presence import Presence, Worker
from facechain.jobs.records import Database, has_table, job_of
from facechain.jobs.retention import Traces
from facechain.types import Job, JobState

LONGEST_ARGUMENTS = 1_000_000  # characters of JSON
WATCH_SECONDS = 0.3
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Jobs:
    """`folder` is the workspace of who sits at the machine; it holds everybody's jobs."""

    def __init__(self, folder: Path, kinds: Mapping[str, Kind], hands: Hands) -> None:
        self.folder, self.kinds, self.hands = folder, kinds, hands
        self.database = Database(folder)
        self.presence = Presence(folder)
        self.bell = Bell(self.database)

    def submit(self, kind: str, arguments: Mapping[str, Any], owner: str = "", key: str = "") -> Job:
        """Puts work into the queue. The same owner and `key` give the same job, however often they are sent.

        Raises UserError for unknown kinds or arguments and for what could not be done, and Conflict for a key that
        was used for something else.
        """
        asked = _digest(kind, arguments)
        given = known.read(self.kinds, kind, arguments)
        self.kinds[kind].check(self.hands, owner, given)
        values = {name: value for name, value in asdict(given).items() if value is not None}
        if "seed" in vars(given) and given.seed is None:
            values["seed"] = self.hands.seed()
        text = json.dumps(values)
        if len(text) > LONGEST_ARGUMENTS:
            raise UserError(f"The job's arguments are {len(text):,} characters.", "Split it into several jobs.")
        generation = self.hands.generation(owner)
        people = json.dumps([self.hands.slug(name) for name in self.kinds[kind].people(given)])
        now = time.time()
        id = f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        with self.database.writing() as connection:
            if key and (earlier := _by_key(connection, owner, key)):
                if earlier["asked"] != asked:
                    raise Conflict(f"The key {key!r} was used for another job.", "Use a new key for new work.")
                return _job(connection, earlier)
            connection.execute(
                "INSERT INTO jobs (id, kind, owner, people, key, asked, arguments, generation, state, place, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (id, kind, owner, people, key, asked, text, generation, JobState.QUEUED, now, now),
            )
            job = _job(connection, _row(connection, id))
        self.bell.ring()
        return job

    def get(self, id: str, owner: str | None = None) -> Job:
        """`owner` None may see everybody's. Raises Missing, in the same words, for none and for another's."""
        with self._looking() as connection:
            if connection is None:
                raise _unknown(id)
            return _job(connection, _row(connection, id, owner))

    def look(self, ids: Collection[str]) -> dict[str, Job]:
        """Those of these jobs that are still known, in one look: for who watches many."""
        with self._looking() as connection:
            if connection is None or not ids:
                return {}
            marks = ", ".join("?" * len(ids))
            rows = connection.execute(f"SELECT * FROM jobs WHERE id IN ({marks})", tuple(ids)).fetchall()
            line = waiting(connection)
            return {row["id"]: _job(connection, row, line) for row in rows}

    def list(
        self,
        owner: str | None = None,
        states: Sequence[str] = (),
        limit: int = 50,
        before: str | None = None,
    ) -> tuple[Job, ...]:
        """Newest first; `before` is the last id of the page before this one. Raises UserError for unknown states."""
        for state in states:
            if state not in list(JobState):
                raise UserError(f"There is no state {state!r}.", f"Known: {', '.join(JobState)}.")
        query, values = "SELECT * FROM jobs WHERE 1", []
        if owner is not None:
            query, values = query + " AND owner = ?", [*values, owner]
        if states:
            query, values = query + f" AND state IN ({', '.join('?' * len(states))})", [*values, *states]
        with self._looking() as connection:
            if connection is None:
                return ()
            if before is not None:
                number = _row(connection, before, owner)["number"]
                query, values = query + " AND number < ?", [*values, number]
            rows = connection.execute(query + " ORDER BY number DESC LIMIT ?", (*values, limit)).fetchall()
            line = waiting(connection)
            return tuple(_job(connection, row, line) for row in rows)

    def cancel(self, id: str, owner: str | None = None) -> Job:
        """A waiting job is cancelled at once, a running one at its next step. Raises Conflict when it has ended."""
        self.bury()
        with self._changing(id, owner) as (connection, row):
            if row["state"] == JobState.QUEUED:
                connection.execute(
                    "UPDATE jobs SET state = ?, ended = ? WHERE id = ?", (JobState.CANCELLED, time.time(), id)
                )
            elif row["state"] == JobState.RUNNING:
                connection.execute("UPDATE jobs SET cancelling = 1 WHERE id = ?", (id,))
            elif row["state"] != JobState.CANCELLED:
                raise Conflict(f"The job {id} has ended: {row['state']}.", "There is nothing to stop.")
            return _job(connection, _row(connection, id))

    def retry(self, id: str, owner: str | None = None) -> Job:
        """Puts a failed or cancelled job back into the queue; it goes on with what was finished.

        Raises Conflict when it is neither.
        """
        self.bury()
        with self._changing(id, owner) as (connection, row):
            if row["state"] not in (JobState.FAILED, JobState.CANCELLED):
                raise Conflict(f"The job {id} is {row['state']}.", "Only what failed or was cancelled can be retried.")
            connection.execute(
                "UPDATE jobs SET state = ?, place = ?, attempt = attempt + 1, stage = '', done = 0, total = 0,"
                " eta_s = NULL, cancelling = 0, error = '', next_step = '', started = NULL, seen = NULL,"
                " ended = NULL, worker = '' WHERE id = ?",
                (JobState.QUEUED, time.time(), id),
            )
            job = _job(connection, _row(connection, id))
        self.bell.ring()
        return job

    def move(self, id: str, position: int, owner: str | None = None) -> Job:
        """Puts a waiting job at this place, from 1, among its owner's waiting ones. Raises Conflict unless it waits."""
        with self._changing(id, owner) as (connection, row):
            if row["state"] != JobState.QUEUED:
                raise Conflict(f"The job {id} is {row['state']}.", "Only waiting jobs can be moved.")
            if position < 1:
                raise UserError(f"There is no place {position}.", "The first place is 1.")
            ids = connection.execute(
                "SELECT id FROM jobs WHERE state = ? AND owner = ? ORDER BY place, number",
                (JobState.QUEUED, row["owner"]),
            )
            others = [other["id"] for other in ids if other["id"] != id]
            others.insert(position - 1, id)
            start = time.time() - len(others)  # before whatever is submitted next
            for at, one in enumerate(others):
                connection.execute("UPDATE jobs SET place = ? WHERE id = ?", (start + at, one))
            return _job(connection, _row(connection, id))

    def watch(self, id: str, owner: str | None = None) -> Iterator[Job]:
        """The job now and whenever it has changed, until it has ended."""
        last = None
        while last is None or last.state not in ENDED:
            job = self.get(id, owner)
            if job != last:
                yield job
                last = job
            else:
                time.sleep(WATCH_SECONDS)

    def forget(self, owner: str, slug: str | None = None, traces: Traces | None = None) -> int:
        """Removes the jobs that are about a person of this owner, or all of the owner's, and the pictures they had.

        Running ones stop. `traces` are other names of the person and their photos. Returns how many were removed.
        """
        return retention.forget(self, owner, slug, traces)

    def sweep(self, owner: str) -> None:
        """Removes pictures that were given to jobs of this owner and are not needed any more; see `retention`."""
        retention.sweep(self, owner)

    def workers(self) -> tuple[Worker, ...]:
        """Those that live."""
        return self.presence.workers()

    def bury(self) -> None:
        """Running jobs whose worker is dead become failed. Whoever looks does it, so nothing runs for ever."""
        with self._looking():
            pass

    # ── small things ─────────────────────────────────────────────────────────────────────────────

    def _bury_those_of(self, dead: Sequence[str]) -> None:
        for worker in dead:
            with self.database.writing() as connection:
                lost = connection.execute(
                    "SELECT * FROM jobs WHERE state = ? AND worker = ?", (JobState.RUNNING, worker)
                ).fetchall()
                for row in lost:
                    connection.execute(
                        "UPDATE jobs SET state = ?, ended = ?, error = ?, next_step = ?, cancelling = 0 WHERE id = ?",
                        (
                            JobState.CANCELLED if row["cancelling"] else JobState.FAILED,
                            time.time(),
                            f"Its worker was killed; last seen {_doing(row)}.",
                            f"Try again: facechain jobs retry {row['id']}. What was finished is kept.",
                            row["id"],
                        ),
                    )

    def _any(self) -> bool:
        if not self.database.there():
            return False
        with self.database.reading() as connection:
            return has_table(connection)

    @contextlib.contextmanager
    def _looking(self) -> Iterator[sqlite3.Connection | None]:
        """To read one state of all jobs from, the dead being buried; None when there has never been a job."""
        if not self.database.there():
            yield None
            return
        with self.database.reading() as connection:
            if not has_table(connection):
                yield None
                return
            rows = connection.execute("SELECT DISTINCT worker FROM jobs WHERE state = ?", (JobState.RUNNING,))
            dead = [row["worker"] for row in rows.fetchall() if not self.presence.alive(row["worker"])]
            self._bury_those_of(dead)
            connection.execute("BEGIN")  # or a worker could take a job between its row and its place in line
            yield connection

    @contextlib.contextmanager
    def _changing(self, id: str, owner: str | None) -> Iterator[tuple[sqlite3.Connection, sqlite3.Row]]:
        """A write transaction, with the job's row in hand."""
        if not self._any():
            raise _unknown()
        with self.database.writing() as connection:
            yield connection, _row(connection, id, owner)


def _row(connection: sqlite3.Connection, id: str, owner: str | None = None) -> sqlite3.Row:
    row = connection.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
    if row is None or (owner is not None and row["owner"] != owner):
        raise _unknown(id)
    return row


def _by_key(connection: sqlite3.Connection, owner: str, key: str) -> sqlite3.Row | None:
    return connection.execute("SELECT * FROM jobs WHERE owner = ? AND key = ?", (owner, key)).fetchone()


def _job(connection: sqlite3.Connection, row: sqlite3.Row, line: Sequence[str] | None = None) -> Job:
    position = None
    if row["state"] == JobState.QUEUED:
        position = (waiting(connection) if line is None else list(line)).index(row["id"]) + 1
    return job_of(row, position)


def _doing(row: sqlite3.Row) -> str:
    if not row["stage"]:
        return "starting"
    return f"{row['stage']} ({row['done']} of {row['total']})" if row["total"] else row["stage"]


def _unknown(id: str = "") -> Missing:
    return Missing(f"There is no job {id}." if id else "There is no such job.", "See `facechain jobs list`.")


def _digest(kind: str, arguments: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([kind, arguments], sort_keys=True, default=str).encode()).hexdigest()
