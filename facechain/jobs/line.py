"""Who is next: users take turns, and within a user's own jobs their own order holds."""

from __future__ import annotations

import sqlite3
from collections import deque

from facechain.types import JobState


def waiting(connection: sqlite3.Connection) -> list[str]:
    """Ids of the queued jobs in the order they will be started.

    The user whose last start lies longest ago goes first; who never had one, before them, by who asked first.
    """
    rows = connection.execute(
        "SELECT id, owner FROM jobs WHERE state = ? ORDER BY place, number", (JobState.QUEUED,)
    ).fetchall()
    mine: dict[str, deque[str]] = {}
    for row in rows:
        mine.setdefault(row["owner"], deque()).append(row["id"])
    if len(mine) < 2:
        return [row["id"] for row in rows]
    last = dict(connection.execute("SELECT owner, max(started) FROM jobs GROUP BY owner").fetchall())
    turns = deque(sorted(mine, key=lambda owner: last.get(owner) or 0.0))
    line: list[str] = []
    while turns:
        owner = turns.popleft()
        line.append(mine[owner].popleft())
        if mine[owner]:
            turns.append(owner)
    return line
