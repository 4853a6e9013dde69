"""A batch on many machines through Ray: one actor a device, warm engines, work split by shot.

A shot is decided by its own seed alone, so whoever paints it paints the same picture. Actors keep nothing: what they
need of a person is lent to them, and pictures come back to the one workspace. Nothing is reported to anybody: Ray's
usage statistics and its dashboard are off, and a local cluster listens on this machine only.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facechain import disk
from facechain.errors import ConfigError, FaceChainError, PersonMissing, StoreError
from facechain.jobs import nodes
from facechain.jobs.batch import Crew, Done, Task
from facechain.types import Request

if TYPE_CHECKING:
    from facechain.studio import Judged, Sitting, Studio

SHOTS = 4  # at most that many of a task go to an actor together; what a dying one had is painted again
AHEAD = 2  # calls an actor has at hand, so that it need not wait for us
PATIENCE_S = 1.0  # between looks whether to stop, and who came or went
TRIES = 3  # of a call, and of a place, before we give up on it
LENT = "facechain-lent-"
_PERSON = "person "  # begins the names of those in Ray's memory


@contextlib.contextmanager
def crew(
    address: str,
    open_studio: Callable[[Path], Studio],
    lend: Callable[[str], bytes],
    is_here: Callable[[str], bool],
    workers: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Crew]:
    """Actors on this machine ("local") or the cluster at `address`; by default one a device, else `workers` in all.

    `open_studio` must be importable by its name on the other machines; `is_here` says whether a person has not been
    forgotten meanwhile. Raises ConfigError when Ray is not installed
    or no cluster answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == "local":
        nodes.keep_private()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError("Ray is not installed.", "Run: bash scripts/setup cluster") from None
    with contextlib.ExitStack() as stack:
        if address == "local":
            address = stack.enter_context(nodes.node())
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"No cluster at {address}: {error}.", "Start one: see docs/jobs.md.") from error
        stack.callback(ray.shutdown)
        hired = _Crew(ray, open_studio, lend, is_here, workers, say)
        stack.callback(hired.dismiss)
        yield hired.shoot


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Room for one actor: a device of a node, or a share of its processor."""

    node: str
    number: int
    gpus: float
    threads: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Call:
    task: Task
    indexes: tuple[int, ...]
    tries: int = 0


class _Crew:
    def __init__(
        self,
        ray: Any,
        open_studio: Callable[[Path], Studio],
        lend: Callable[[str], bytes],
        is_here: Callable[[str], bool],
        workers: int,
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._open_studio, self._lend, self._is_here = ray, open_studio, lend, is_here
        self._workers, self._say = workers, say
        self._actors: dict[_Place, Any] = {}
        self._lost: Counter[_Place] = Counter()
        self._flying: dict[Any, tuple[_Place, Any, _Call]] = {}  # with the actor it went to
        self._refs: dict[str, Any] = {}  # what was put into Ray's memory, once each

    # ── who works ────────────────────────────────────────────────────────────────────────────────

    def _places(self) -> list[_Place]:
        """One a device, a node with a processor only being one device; node by node in turns."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        found: list[_Place] = []
        gpus = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in alive}
        rooms = {id: max(1, count) for id, count in gpus.items()}
        while alive and 0 < sum(rooms.values()) < self._workers:
            rooms[min(rooms, key=lambda id: rooms[id])] += 1
        for node in alive:
            id = node["NodeID"]
            threads = max(1, int(node["Resources"].get("CPU", 1)) // rooms[id])
            share = min(1.0, gpus[id] / rooms[id])
            found += [_Place(node=id, number=at, gpus=share, threads=threads) for at in range(rooms[id])]
        found.sort(key=lambda place: place.number)
        return found[: self._workers or None]

    def _recruit(self) -> None:
        """An actor for every place that has none; also on nodes that came later, and anew where one died."""
        from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
            NodeAffinitySchedulingStrategy,
        )

        for place in self._places():
            if place in self._actors or self._lost[place] >= TRIES:
                continue
            if self._workers and len(self._actors) >= self._workers:
                return
            remote = self._ray.remote(Hand).options(
                num_cpus=0,
                num_gpus=place.gpus,
                scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
            )
            self._actors[place] = remote.remote(self._open_studio, place.threads)

    def dismiss(self) -> None:
        """Actors give back what they were lent, and leave."""
        closing = [actor.close.remote() for actor in self._actors.values()]
        if closing:
            with contextlib.suppress(Exception):
                self._ray.wait(closing, num_returns=len(closing), timeout=5)

    # ── the work ─────────────────────────────────────────────────────────────────────────────────

    def shoot(self, tasks: Iterator[Task], pulse: Callable[[], None]) -> Iterator[Done]:
        from ray.exceptions import RayError, RayTaskError  # pyright: ignore[reportMissingImports]

        self._recruit()
        waiting: deque[_Call] = deque()
        calls = (call for task in tasks for call in self._split(task))
        while True:
            self._send(waiting, calls)
            if not self._flying:
                return
            ready, _ = self._ray.wait(list(self._flying), num_returns=1, timeout=PATIENCE_S)
            pulse()
            self._forget_gone()
            if not ready:
                self._recruit()
            for ref in ready:
                place, actor, call = self._flying.pop(ref)
                try:
                    judged: tuple[Judged, ...] | FaceChainError = self._ray.get(ref)
                except RayTaskError as error:
                    judged = FaceChainError(f"Internal error: {error.cause!r}.", "Report it.")
                except RayError as error:
                    if lost := self._lose(place, actor, call, waiting, error):
                        yield lost
                    continue
                if isinstance(judged, FaceChainError):
                    yield Done(task=call.task, indexes=call.indexes, error=judged)
                else:
                    yield Done(task=call.task, indexes=call.indexes, judged=judged)

    def _split(self, task: Task) -> Iterator[_Call]:
        size = max(1, min(SHOTS, math.ceil(len(task.indexes) / max(1, len(self._actors)))))
        for start in range(0, len(task.indexes), size):
            yield _Call(task=task, indexes=task.indexes[start : start + size])

    def _send(self, waiting: deque[_Call], calls: Iterator[_Call]) -> None:
        """Keeps every actor in work. Raises FaceChainError when there is work and nobody left to do it."""
        while True:
            loads = Counter(dict.fromkeys(self._actors, 0))
            loads.update(place for place, actor, _ in self._flying.values() if self._actors.get(place) is actor)
            free = min(self._actors, key=lambda place: loads[place], default=None)
            if free is not None and loads[free] >= AHEAD:
                return
            call = waiting.popleft() if waiting else next(calls, None)
            if call is None:
                return
            if free is None:
                self._recruit()
                if not self._actors:
                    raise FaceChainError(
                        "All workers of the cluster are gone.", "Run the same command again: it goes on."
                    )
                waiting.appendleft(call)
                continue
            self._flying[self._start(free, call)] = free, self._actors[free], call

    def _start(self, place: _Place, call: _Call) -> Any:
        sitting, order = call.task.sitting, call.task.order
        ticket = _Ticket(
            run=order.run, request=replace(sitting.request, template=None), template=Path(order.template).suffix
        )
        template = self._put(order.template, Path(order.template).read_bytes) if order.template else None
        lent = [self._put(f"{_PERSON}{name}", lambda name=name: self._lend(name)) for name in order.people]
        return self._actors[place].shoot.remote(ticket, call.indexes, template, *lent)

    def _put(self, name: str, read: Callable[[], bytes]) -> Any:
        if name not in self._refs:
            self._refs[name] = self._ray.put(read())
        return self._refs[name]

    def _forget_gone(self) -> None:
        """Whom this workspace has forgotten, the cluster's memory and workers forget too."""
        for ref in [ref for ref in self._refs if ref.startswith(_PERSON)]:
            if not self._is_here(name := ref.removeprefix(_PERSON)):
                del self._refs[ref]
                for actor in self._actors.values():
                    actor.forget.remote(name)

    def _lose(self, place: _Place, actor: Any, call: _Call, waiting: deque[_Call], error: Exception) -> Done | None:
        """The actor is gone: somebody else does its call, unless that has cost several actors already."""
        if self._actors.get(place) is not actor:  # known already, from the call it was at; this one only waited for it
            waiting.appendleft(call)
            return None
        del self._actors[place]
        self._lost[place] += 1
        self._say(f"A worker of the cluster died ({type(error).__name__}); others do its work.")
        if call.tries + 1 < TRIES:
            waiting.appendleft(replace(call, tries=call.tries + 1))
            return None
        why = FaceChainError(f"Its worker died {TRIES} times.", "Ask for smaller pictures, or look at the nodes.")
        return Done(task=call.task, indexes=call.indexes, error=why)


# ── on the other machines ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ticket:
    run: str
    request: Request
    template: str  # its file's ending


class Hand:
    """One device's actor: a studio over a folder of its own, which goes when it leaves."""

    def __init__(self, open_studio: Callable[[Path], Studio], threads: int) -> None:
        os.environ.setdefault("FACECHAIN_THREADS", str(threads))
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=LENT))
        self._leaving = contextlib.ExitStack()
        self._leaving.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._leaving.enter_context(disk.locked(self._folder / "held.lock"))
        self._studio = open_studio(self._folder)
        self._lent: set[str] = set()
        self._sitting: tuple[str, Sitting] | None = None  # of the newest run

    def shoot(
        self, ticket: _Ticket, indexes: tuple[int, ...], template: bytes | None, *lent: bytes
    ) -> tuple[Judged, ...] | FaceChainError:
        try:
            return tuple(self._studio.shoot(self._prepared(ticket, template, lent), indexes))
        except FaceChainError as error:
            return error

    def _prepared(self, ticket: _Ticket, template: bytes | None, lent: tuple[bytes, ...]) -> Sitting:
        if self._sitting is None or self._sitting[0] != ticket.run:
            for name, parcel in zip(ticket.request.people, lent, strict=True):
                if name not in self._lent:
                    self._studio.borrow(name, parcel)
                    self._lent.add(name)
            picture = None
            if template is not None:
                picture = self._folder / f"template{ticket.template}"
                picture.write_bytes(template)
            self._sitting = ticket.run, self._studio.prepare(ticket.request, picture)
        return self._sitting[1]

    def forget(self, name: str) -> None:
        self._sitting = None
        self._lent.discard(name)
        with contextlib.suppress(PersonMissing):
            self._studio.forget(name)

    def close(self) -> None:
        self._leaving.close()


def _sweep() -> None:
    """Removes what actors that were killed had been lent."""
    for left in Path(tempfile.gettempdir()).glob(f"{LENT}*"):
        with contextlib.suppress(OSError, StoreError), disk.locked(left / "held.lock", patience_seconds=0):
            shutil.rmtree(left, ignore_errors=True)
