"""What jobs leave behind, and when it goes: the pictures they were given, and what they said of them.

Doors put pictures into `<workspace>/uploads/<upload>/` or `<workspace>/drops/<upload>/` and name them in a job's
arguments. An upload stays while a waiting or running job needs it. After that

* photos of `uploads` go as soon as the job about them is done, those of `drops`, which a page still shows, only when
  it was an enrolment; everything else goes after a day;
* photo checks and sorted albums, which tell file names, hashes and captions, go a day after they ended;
* forgetting a person takes every job about them, the uploads of those jobs and of every check of the same photos, and
  what other jobs say of the person.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from facechain.types import JobState

if TYPE_CHECKING:
    from facechain.jobs.queue import Jobs

UPLOADS, DROPS = "uploads", "drops"
KEPT_S = 24 * 3600.0

_LOOKS = ("check", "sort")
_OPEN = (JobState.QUEUED, JobState.RUNNING)
_FORGOTTEN = "It was about somebody who has been forgotten."


class Traces(Protocol):
    """How a person's photos may be named in jobs; as in `facechain.store.workspace`."""

    @property
    def names(self) -> Collection[str]: ...

    @property
    def photo_ids(self) -> Collection[str]: ...

    @property
    def photo_names(self) -> Collection[str]: ...


def forget(jobs: Jobs, owner: str, slug: str | None, traces: Traces | None) -> int:
    """See `Jobs.forget`."""
    for old in (*jobs.database.damaged(), jobs.folder / ".jobs" / "worker.log"):
        old.unlink(missing_ok=True)  # nobody can take one person out of them; the log is an earlier version's
    if not jobs.database.there():
        return 0
    home = jobs.hands.folder(owner).absolute()
    with jobs.database.writing() as connection:
        rows = connection.execute("SELECT * FROM jobs WHERE owner = ?", (owner,)).fetchall()
        about = [row for row in rows if slug is None or _is_about(row, slug)]
        gone = [*about, *_looks_at(about, [row for row in rows if row not in about], home, traces)]
        left = [row for row in rows if row not in gone]
        connection.executemany("DELETE FROM jobs WHERE id = ?", [(row["id"],) for row in gone])
        for row in left if slug is not None else ():
            _leave_out(connection, row, slug or "", traces)
    waiting = [row for row in left if row["state"] in _OPEN]
    _drop({path for row in gone for path in _pictures(home, row)}, {p for row in waiting for p in _pictures(home, row)})
    return len(about)


def sweep(jobs: Jobs, owner: str) -> None:
    """See `Jobs.sweep`."""
    home = jobs.hands.folder(owner).absolute()
    rows: list[sqlite3.Row] = []
    if jobs.database.there():
        with jobs.database.writing() as connection:
            marks = ", ".join("?" * len(_LOOKS))
            connection.execute(
                f"DELETE FROM jobs WHERE owner = ? AND kind IN ({marks}) AND ended < ?",
                (owner, *_LOOKS, time.time() - KEPT_S),
            )
            rows = connection.execute("SELECT * FROM jobs WHERE owner = ?", (owner,)).fetchall()
    needed = {path.parent for row in rows if row["state"] in _OPEN for path in _pictures(home, row)}
    served = {
        path.parent
        for row in rows
        if row["state"] == JobState.DONE
        for path in _pictures(home, row, "paths")
        if path.parent.parent.name == UPLOADS or row["kind"] == "enrol"
    }
    for folder in (*home.glob(f"{UPLOADS}/*"), *home.glob(f"{DROPS}/*")):
        with contextlib.suppress(FileNotFoundError):  # dropped meanwhile
            if folder not in needed and (folder in served or time.time() - folder.stat().st_mtime > KEPT_S):
                shutil.rmtree(folder, ignore_errors=True)


def _drop(pictures: Collection[Path], needed: Collection[Path]) -> None:
    """The uploads these pictures are in; of one that waiting jobs need, only what they do not."""
    kept = {path.parent for path in needed}
    for folder in {path.parent for path in pictures} - kept:
        shutil.rmtree(folder, ignore_errors=True)
    for path in set(pictures) - set(needed):
        path.unlink(missing_ok=True)


def _pictures(home: Path, row: sqlite3.Row, argument: str = "") -> set[Path]:
    """Files of uploads that the job's arguments, or one of them, name."""
    given = _value(row["arguments"])
    if argument:
        given = given.get(argument) if isinstance(given, dict) else None
    paths = {Path(text).absolute() for text in _texts(given) if "/" in text or "\\" in text}
    return {path for path in paths if path.parent.parent in (home / UPLOADS, home / DROPS)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_about(row: sqlite3.Row, slug: str) -> bool:
    """One whose people cannot be read may be about anybody."""
    people = _value(row["people"])
    return slug in people if isinstance(people, list) else True


def _looks_at(
    about: Collection[sqlite3.Row], others: Collection[sqlite3.Row], home: Path, traces: Traces | None
) -> list[sqlite3.Row]:
    """Checks and sorted albums that saw a photo of the person, told by its upload, content or file name."""
    given = [path for row in about for path in _pictures(home, row)]
    known = {path.name for path in given}
    if traces is not None:
        known |= {*traces.photo_ids, *traces.photo_names}
    found = []
    for row in others:
        if row["kind"] in _LOOKS:
            seen, result = _pictures(home, row), _value(row["result"])
            damaged = result is None and row["result"]
            same = {path.parent for path in seen} & {path.parent for path in given}
            if damaged or same or known & {*_texts(result), *(path.name for path in seen)}:
                found.append(row)
    return found


def _leave_out(connection: sqlite3.Connection, row: sqlite3.Row, slug: str, traces: Traces | None) -> None:
    """Takes a person out of what a job about others, such as a batch, shows and says."""
    if f"{os.sep}people{os.sep}{slug}{os.sep}" in (row["preview"] or ""):
        connection.execute("UPDATE jobs SET preview = NULL WHERE id = ?", (row["id"],))
    names = {slug, *(traces.names if traces else ())}
    named = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names), re.IGNORECASE)
    if named.search(f"{row['error']} {row['next_step']}"):
        connection.execute("UPDATE jobs SET error = ?, next_step = '' WHERE id = ?", (_FORGOTTEN, row["id"]))


def _value(text: str | None) -> Any:
    """Of JSON; None for what is none."""
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
