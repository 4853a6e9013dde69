"""Progress on stderr: bars in a terminal, one line per stage with its seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facechain.cli.text import plain
from facechain.protocols import Tick, silent

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

QUIET_SECONDS = 30.0  # a stage that takes longer says how far it is


@contextmanager
def progress(quiet: bool = False) -> Iterator[Tick]:
    """A tick that shows each stage, counting items."""
    with _shown(quiet, in_bytes=False) as tick:
        yield tick


@contextmanager
def downloads(quiet: bool = False) -> Iterator[Tick]:
    """As `progress`, counting bytes."""
    with _shown(quiet, in_bytes=True) as tick:
        yield tick


@contextmanager
def _shown(quiet: bool, in_bytes: bool) -> Iterator[Tick]:
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bars(in_bytes) as tick:
            yield tick
    else:
        log = Log(lambda line: print(line, file=sys.stderr, flush=True), in_bytes=in_bytes)
        try:
            yield log.tick
        finally:
            log.close()


@dataclass(kw_only=True)
class _Stage:
    started: float
    said: float  # when its last line was printed
    seen: float  # when it was last heard of
    done: int = 0
    total: int = 0


class Log:
    """One line when a stage ends; stages that take long are mentioned on the way."""

    def __init__(
        self, say: Callable[[str], None], *, in_bytes: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._in_bytes, self._clock = say, in_bytes, clock
        self._open: dict[str, _Stage] = {}
        self._ended: set[str] = set()

    def tick(self, stage: str, done: int, total: int) -> None:
        now, over = self._clock(), 0 < total <= done
        if stage not in self._open:
            if over and stage in self._ended:  # told already
                return
            self._open[stage] = _Stage(started=now, said=now, seen=now)
        at = self._open[stage]
        at.done, at.total, at.seen = done, total, now
        if over:
            self._end(stage)
        elif now - at.said >= QUIET_SECONDS:
            at.said = now
            self._say(self._line(stage))

    def close(self) -> None:
        """Says of what did not end how far it came."""
        for stage in list(self._open):
            self._end(stage)

    def _end(self, stage: str) -> None:
        self._say(self._line(stage))
        del self._open[stage]
        self._ended.add(stage)

    def _line(self, stage: str) -> str:
        at = self._open[stage]
        done, total = (f"{n / 1e6:.1f}" if self._in_bytes else str(n) for n in (at.done, at.total))
        far = f"{done} of {total}" if at.total else done
        return plain(f"{stage}: {far}{' MB' * self._in_bytes}, {at.seen - at.started:.1f} s")


@contextmanager
def _bars(in_bytes: bool) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counted: tuple[ProgressColumn, ...] = (
        (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    )
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *counted, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=not in_bytes) as bars:
        tasks: dict[str, TaskID] = {}

        def tick(stage: str, done: int, total: int) -> None:
            known = total or None
            if stage not in tasks:
                tasks[stage] = bars.add_task(plain(stage), total=known)
            bars.update(tasks[stage], completed=done, total=known)

        yield tick
