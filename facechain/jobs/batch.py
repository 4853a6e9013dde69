"""Many sittings from one table. What is stored is never made again, so the same batch goes on wherever it stopped."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from facechain import disk
from facechain.errors import Cancelled, Conflict, ConsentMissing, FaceChainError, PersonError, PersonMissing, StoreError
from facechain.jobs import report as reports
from facechain.jobs.report import Outcome
from facechain.jobs.sheet import CONSENT, Order
from facechain.protocols import Tick, silent
from facechain.types import Call, Request

if TYPE_CHECKING:
    from facechain.studio import Judged, Made, Result, Sitting, Studio


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """The shots of an order that are still to be made."""

    order: Order
    sitting: Sitting
    folder: Path  # where its portraits are kept
    indexes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Done:
    """Some shots of a task: painted and judged, or why they could not be."""

    task: Task
    indexes: tuple[int, ...]
    judged: tuple[Judged, ...] = ()
    error: FaceChainError | None = None


# Every shot of every task once, in any order. It calls its second argument, which may raise, at least every second.
Crew: TypeAlias = Callable[[Iterator[Task], Callable[[], None]], Iterator[Done]]


def alone(studio: Studio) -> Crew:
    """This process does everything, one shot after the other."""

    def shoot(tasks: Iterator[Task], pulse: Callable[[], None]) -> Iterator[Done]:
        for task in tasks:
            at = 0
            try:
                for at, judged in enumerate(studio.shoot(task.sitting, task.indexes)):
                    yield Done(task=task, indexes=(task.indexes[at],), judged=(judged,))
                    pulse()
            except Cancelled:
                raise
            except FaceChainError as error:
                yield Done(task=task, indexes=task.indexes[at:], error=error)

    return shoot


def run(
    orders: Sequence[Order],
    studio: Studio,
    crew: Crew,
    report: Path,
    *,
    format: str = "png",
    since: str = "",
    show: Callable[[Path], None] = lambda picture: None,
    tick: Tick = silent,
) -> tuple[Outcome, ...]:
    """What became of every order, in their order; also written to `report` as each is finished.

    An order that cannot be done is told of and the others go on. `since` is the workspace's generation of when the
    batch was submitted, by default now: who is forgotten after that is not enrolled again from the photos of an order.
    Raises Conflict when this batch is running already, StoreError when the disk refuses.
    """
    digest = hashlib.sha256("\n".join(order.run for order in orders).encode()).hexdigest()[:16]
    lock = studio.tools.workspace.folder / ".jobs" / f"batch-{digest}.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(disk.locked(lock, patience_seconds=0))
        except StoreError:
            raise Conflict("This batch is being made already.", "Wait for it, or stop it first.") from None
        since = since or studio.tools.workspace.generation()
        return _Batch(orders, studio, digest, report, format, since, show, tick).through(crew)


class _Batch:
    def __init__(
        self,
        orders: Sequence[Order],
        studio: Studio,
        digest: str,
        report: Path,
        format: str,
        since: str,
        show: Callable[[Path], None],
        tick: Tick,
    ) -> None:
        self._orders, self._studio, self._format = orders, studio, format
        self._digest, self._report, self._since = digest, report, since
        self._show, self._tick = show, tick
        self._outcomes: dict[str, Outcome] = {}  # by run
        self._open: dict[str, set[int]] = {}  # run → shots not yet made
        self._errors: dict[str, FaceChainError] = {}
        self._total, self._made = sum(order.count for order in orders), 0

    def through(self, crew: Crew) -> tuple[Outcome, ...]:
        for done in crew(self._tasks(), self._pulse):
            self._take(done)
        self._pulse()
        return self._so_far()

    def _tasks(self) -> Iterator[Task]:
        for order in self._orders:
            try:
                task = self._task(order)
            except (Cancelled, StoreError):
                raise
            except FaceChainError as error:
                self._errors[order.run] = error
                self._finish(order, None)
                continue
            self._made += order.count - len(task.indexes)
            self._pulse()
            if task.indexes:
                self._open[order.run] = set(task.indexes)
                yield task
            else:
                self._finish(order, task)

    def _task(self, order: Order) -> Task:
        self._enrolled(order)
        request = Request(
            people=order.people,
            engine=order.engine,
            base=order.base,
            style=order.style,
            prompt=order.prompt,
            negative=order.negative,
            count=order.count,
            keep=order.keep,
            seed=order.seed,
            options=order.settings,
        )
        template = Path(order.template) if order.template else None
        sitting = self._studio.prepare(request, template, self._format, self._tick)
        folder = self._studio.folder(sitting, order.run)
        left = tuple(sitting.missing(self._studio.stored(folder)))
        return Task(order=order, sitting=sitting, folder=folder, indexes=left)

    def _enrolled(self, order: Order) -> None:
        """Enrols who is not there yet, if the order brings photos and consent."""
        for name in order.people:
            try:
                self._studio.person(name)
            except PersonMissing:
                if not order.photos or len(order.people) > 1:
                    raise
                try:
                    self._studio.enrol(
                        name,
                        [Path(order.photos)],
                        consent_by=order.consent_by,
                        purpose=order.purpose,
                        since=self._since,
                        tick=self._tick,
                    )
                except ConsentMissing as error:
                    how = f"Write it into the columns consent_by and purpose, or into {CONSENT} as by and purpose."
                    raise ConsentMissing(error.what, how) from None

    def _take(self, done: Done) -> None:
        order, task = done.task.order, done.task
        if done.error is not None:
            self._errors[order.run] = done.error
        for judged in done.judged:
            try:
                self._show(self._studio.store(task.sitting, task.folder, judged, self._format))
                self._made += 1
            except PersonError as error:  # forgotten meanwhile
                self._errors[order.run] = error
        left = self._open[order.run]
        left -= set(done.indexes)
        self._pulse()
        if not left:
            del self._open[order.run]
            self._finish(order, task)

    def _finish(self, order: Order, task: Task | None) -> None:
        made = None
        if task is not None:
            with contextlib.suppress(PersonError):
                made = self._studio.choose(task.sitting, task.folder)
        self._outcomes[order.run] = self._outcome(order, task, made)
        reports.write(self._report, self._so_far(), self._digest)

    def _outcome(self, order: Order, task: Task | None, made: Made | None) -> Outcome:
        results = made.results if made else ()
        passed = [result for result in results if _passes(result)]
        others = Counter(_call(result) for result in results if not _passes(result))
        why = [f"{count} {call}" for call, count in others.most_common()]
        if error := self._errors.get(order.run):
            why.append(str(error))
        return Outcome(
            line=order.line,
            people=" + ".join(order.people),
            style=order.style,
            engine=(task.sitting.request.engine if task else order.engine),
            seed=order.seed,
            asked=order.count,
            made=len(results),
            passed=len(passed),
            kept=sum(result.verdicts[0].kept for result in results),
            missed=max(0, order.count - len(results)),
            why="; ".join(why),
            folder=str(made.folder) if made else "",
        )

    def _so_far(self) -> tuple[Outcome, ...]:
        return tuple(self._outcomes[order.run] for order in self._orders if order.run in self._outcomes)

    def _pulse(self) -> None:
        self._tick("painting", min(self._made, self._total), self._total)


def _passes(result: Result) -> bool:
    return all(verdict.call is Call.SAME for verdict in result.verdicts)


def _call(result: Result) -> str:
    """Of the person least alike."""
    calls = [verdict.call for verdict in result.verdicts]
    return next(call.value for call in (Call.OTHER, Call.UNSURE) if call in calls)
