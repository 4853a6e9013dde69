"""A worker: one process a device that takes jobs one after the other and keeps its models warm between them."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from facechain.errors import Cancelled, FaceChainError, StoreError
from facechain.jobs import memory
from facechain.jobs.kinds import read
from facechain.jobs.line import waiting
from facechain.jobs.log import log
from facechain.jobs.presence import Worker
from facechain.jobs.queue import Jobs
from facechain.jobs.records import has_table, job_of
from facechain.types import Job, JobState

IDLE_SECONDS = 0.25  # between looks at an empty queue
WRITE_SECONDS = 1.0  # between writes of progress: each waits for the disk, and who reads waits with it
LOOK_SECONDS = 0.25  # between looks whether it should stop
BEAT_SECONDS = 5.0


class _Leaving(Cancelled):
    """The worker, not the job, was asked to stop."""


def work(
    jobs: Jobs,
    device: str = "cpu",
    *,
    until_idle: bool = False,
    release: Callable[[], None] = lambda: None,
    alone: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Does jobs until told to leave by SIGTERM or Ctrl-C; what it was doing then goes back to the head of the queue.

    `until_idle`: leaves when nothing waits; also when `alone` says that who started it is gone. `release` drops warm
    models when memory is short. Returns how many jobs it worked on. Raises UserError when the device has a worker.
    """
    with jobs.presence.working(device) as me:
        worker = _Worker(jobs, me, say)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.leave())
        say(f"Worker for {device} is ready.")
        warm = False
        while not worker.leaving:
            if worker.next():
                warm = True
                memory.give_back()
            elif until_idle or alone():
                break
            else:
                worker.rest()
            if warm and (worker.starved or memory.is_short()):
                say("Memory is short: warm models are dropped.")
                release()
                memory.give_back()
                warm = worker.starved = False
        return worker.worked


class _Worker:
    def __init__(self, jobs: Jobs, me: Worker, say: Callable[[str], None]) -> None:
        self._jobs, self._me, self._say = jobs, me, say
        self._left = threading.Event()
        self.worked = 0
        self.starved = False  # the last job ran out of memory, the machine's or the accelerator's

    @property
    def leaving(self) -> bool:
        return self._left.is_set()

    def leave(self) -> None:
        self._left.set()

    def rest(self) -> None:
        self._left.wait(IDLE_SECONDS)

    def next(self) -> bool:
        """Works on a job, if one waits. A queue that cannot be used, such as for a full disk, is tried again."""
        before = self.worked
        with _told():
            self._jobs.bury()
            self._jobs.bell.answer(self._serve, self._waiting())
        return self.worked > before

    def _waiting(self) -> int:
        if not self._jobs.database.there():
            return 0
        with self._jobs.database.reading() as connection:
            return len(waiting(connection)) if has_table(connection) else 0

    def _serve(self) -> None:
        job = None
        with _told():  # huey would swallow it
            job = self._claim()
        if job is None:
            return
        self.worked += 1
        self._say(f"{job.id} {job.kind} started.")
        run = _Run(self._jobs, self._me, job, self._left)
        self._say(f"{job.id} {job.kind} {run.through()}.")
        self.starved = run.starved

    def _claim(self) -> Job | None:
        now = time.time()
        with self._jobs.database.writing() as connection:
            line = waiting(connection)
            if not line:
                return None
            connection.execute(
                "UPDATE jobs SET state = ?, worker = ?, started = ?, seen = ? WHERE id = ?",
                (JobState.RUNNING, self._me.id, now, now, line[0]),
            )
            return job_of(connection.execute("SELECT * FROM jobs WHERE id = ?", (line[0],)).fetchone(), None)


class _Run:
    """One job on one worker: its ticks go into the records, and what the records say stops it."""

    def __init__(self, jobs: Jobs, me: Worker, job: Job, left: threading.Event) -> None:
        self._jobs, self._me, self._job, self._left = jobs, me, job, left
        self._at: dict[str, Any] = {}  # how far it is
        self._stage, self._written, self._looked = "", 0.0, 0.0
        self._since, self._first = time.monotonic(), 0
        self.starved = False

    def through(self) -> str:
        """Does the job; returns how it ended."""
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        beat.start()
        try:
            kind = self._jobs.kinds[self._job.kind]
            given = read(self._jobs.kinds, self._job.kind, self._job.arguments)
            result = kind.run(self._jobs.hands, self._job, given, self.tick, self.show)
            return self._end(JobState.DONE, result=json.dumps(result, default=_number))
        except _Leaving:
            return self._back()
        except Cancelled:
            return self._end(JobState.CANCELLED, error="Stopped as asked.", next_step="What was finished is kept.")
        except FaceChainError as error:
            return self._end(JobState.FAILED, error=error.what, next_step=error.next_step)
        except Exception as error:
            self.starved = _is_hunger(error)
            if self.starved:
                return self._end(
                    JobState.FAILED,
                    error="The machine ran out of memory.",
                    next_step="Try again; if it comes back, ask for smaller pictures.",
                )
            log.exception("%s %s", self._job.id, self._job.kind)
            return self._end(
                JobState.FAILED,
                error=f"Internal error: {type(error).__name__}: {error}.",
                next_step="The worker's log has the details; report them.",
            )
        finally:
            ended.set()
            beat.join()

    def tick(self, stage: str, done: int, total: int) -> None:
        """Writes progress, now and then. Raises Cancelled when the job was cancelled, forgotten or is to be left."""
        now = time.monotonic()
        changed = stage != self._stage
        if changed:
            self._stage, self._since, self._first = stage, now, done
        steps = done - self._first
        eta_s = (now - self._since) / steps * (total - done) if steps > 0 else None
        self._at |= {"stage": stage, "done": done, "total": total, "eta_s": eta_s}
        if changed or now - self._written >= WRITE_SECONDS or done >= total:
            self._written = self._looked = now
            self._write()
        elif now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()

    def show(self, picture: Path) -> None:
        """To be written with the next progress."""
        self._at["preview"] = str(picture)

    def _write(self) -> None:
        with self._jobs.database.writing() as connection:
            self._check_preview()
            columns = ", ".join(f"{name} = ?" for name in self._at)
            mine = connection.execute(
                f"UPDATE jobs SET {columns}, seen = ? WHERE id = ? AND worker = ? AND state = ? RETURNING cancelling",
                (*self._at.values(), time.time(), self._job.id, self._me.id, JobState.RUNNING),
            ).fetchone()
        self._at.pop("preview", None)  # said once: it may show somebody who is forgotten before the next time
        self._heed(mine)

    def _check_preview(self) -> None:
        """Drops one that was deleted meanwhile, in the transaction that writes it: forgetting deletes the picture first
        and then clears what the records say of it."""
        if not Path(self._at.get("preview", "")).is_file():
            self._at.pop("preview", None)

    def _look(self) -> None:
        with self._jobs.database.reading() as connection:
            mine = connection.execute(
                "SELECT cancelling FROM jobs WHERE id = ? AND worker = ? AND state = ?",
                (self._job.id, self._me.id, JobState.RUNNING),
            ).fetchone()
        self._heed(mine)

    def _heed(self, mine: sqlite3.Row | None) -> None:
        """Raises when the job is not ours any more, or one of us is to stop."""
        if mine is None or mine["cancelling"]:
            raise Cancelled
        if self._left.is_set():
            raise _Leaving

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT_SECONDS):
            with _told(), self._jobs.database.writing() as connection:
                connection.execute(
                    "UPDATE jobs SET seen = ? WHERE id = ? AND worker = ? AND state = ?",
                    (time.time(), self._job.id, self._me.id, JobState.RUNNING),
                )

    def _end(self, state: JobState, **values: Any) -> str:
        """Writes how it ended; where the disk refuses, until it does not, or a job that has ended would seem to run."""
        while True:
            try:
                return self._write_end(state, **values)
            except StoreError as error:
                log.error("%s", error)
                if self._left.wait(BEAT_SECONDS):
                    raise

    def _write_end(self, state: JobState, **values: Any) -> str:
        with self._jobs.database.writing() as connection:
            self._check_preview()
            told = {**self._at, **values}
            columns = "".join(f", {name} = ?" for name in told)
            connection.execute(
                f"UPDATE jobs SET state = ?, ended = ?, cancelling = 0{columns}"
                " WHERE id = ? AND worker = ? AND state = ?",
                (state, time.time(), *told.values(), self._job.id, self._me.id, JobState.RUNNING),
            )
        return f"ended: {state}"

    def _back(self) -> str:
        """To the head of its owner's line, as if it had not been started."""
        with self._jobs.database.writing() as connection:
            first = connection.execute(
                "SELECT min(place) FROM jobs WHERE owner = ? AND state = ?", (self._job.owner, JobState.QUEUED)
            ).fetchone()[0]
            connection.execute(
                "UPDATE jobs SET state = ?, place = ?, started = NULL, worker = '', eta_s = NULL"
                " WHERE id = ? AND worker = ? AND state = ?",
                (JobState.QUEUED, (first or time.time()) - 1, self._job.id, self._me.id, JobState.RUNNING),
            )
        self._jobs.bell.ring()
        return "goes back into the queue"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Logs that the records cannot be used, such as for a full disk; whoever asks tries again later."""
    try:
        yield
    except StoreError as error:
        log.error("%s", error)


def _is_hunger(error: Exception) -> bool:
    """Also torch's and onnxruntime's, which are not Python's own."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "bad_alloc" in str(error)


def _number(value: Any) -> Any:
    """One of numpy's as one of Python's."""
    return value.item()
