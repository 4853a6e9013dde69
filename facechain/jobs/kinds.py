"""What a job can be: each kind is one verb of the studio, with the arguments it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from facechain.config import build
from facechain.errors import UserError
from facechain.jobs.report import Outcome, default_path, summary
from facechain.protocols import Tick
from facechain.types import Job, Note, Request, Verdict

if TYPE_CHECKING:
    from facechain.studio import Result, Studio


SAMPLE_S = 10.0  # between looks for pictures that a training has painted on its way


class Hands(Protocol):
    """What jobs are done with; bootstrap has them."""

    def studio(self, owner: str) -> Studio: ...

    def fetch(self, ids: tuple[str, ...], set_name: str, tick: Tick) -> list[str]: ...

    def seed(self) -> int: ...

    def slug(self, name: str) -> str: ...

    def folder(self, owner: str) -> Path: ...

    def generation(self, owner: str) -> str: ...

    def check_batch(self, given: Batch) -> None: ...

    def batch(self, given: Batch, job: Job, tick: Tick, show: Show) -> tuple[Outcome, ...]: ...


class Show(Protocol):
    """Hears where the newest picture is."""

    def __call__(self, picture: Path) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`arguments` is a dataclass; unknown and missing keys are refused when the job is submitted."""

    arguments: type
    run: Callable[[Hands, Job, Any, Tick, Show], Mapping[str, Any] | None]  # the dataclass in, JSON out
    people: Callable[[Any], tuple[str, ...]] = lambda arguments: ()  # names of those it is about
    check: Callable[[Hands, str, Any], None] = lambda hands, owner, arguments: None  # refuses before it is queued


@dataclass(frozen=True, kw_only=True)
class Enrol:
    name: str
    paths: tuple[str, ...]
    consent_by: str
    purpose: str


def _enrol(hands: Hands, job: Job, given: Enrol, tick: Tick, show: Show) -> Mapping[str, Any]:
    enrolled = hands.studio(job.owner).enrol(
        given.name,
        _paths(given.paths),
        consent_by=given.consent_by,
        purpose=given.purpose,
        since=job.generation,
        tick=tick,
    )
    person = enrolled.person
    return {
        "person": person.name,
        "photos": len(person.crops),
        "held_out": len(person.held_out),
        "notes": _notes({crop.photo_name: crop.notes for crop in (*person.crops, *person.held_out)}),
        "rejections": [asdict(rejection) for rejection in enrolled.rejections],
    }


@dataclass(frozen=True, kw_only=True)
class Train:
    name: str
    base: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def _check_training(hands: Hands, owner: str, given: Train) -> None:
    hands.studio(owner).check_training(given.name, given.base, given.settings)


def _train(hands: Hands, job: Job, given: Train, tick: Tick, show: Show) -> Mapping[str, Any]:
    faces, looked = hands.studio(job.owner), time.monotonic()

    def watched(stage: str, done: int, total: int) -> None:
        nonlocal looked
        tick(stage, done, total)
        if time.monotonic() - looked >= SAMPLE_S:
            looked = time.monotonic()
            if (seen := faces.training(given.name)) and seen.samples:
                show(seen.samples[-1])

    learned = faces.train(given.name, given.base, given.settings, watched)
    return {"person": learned.person, "engine": learned.engine, "digest": learned.digest}


@dataclass(frozen=True, kw_only=True)
class Make:
    """As `Request`, whose words they are; `template`, `start` and `mask` are paths, `pose` as for `Studio.make`."""

    people: tuple[str, ...]
    engine: str = ""
    base: str = ""
    style: str = ""
    template: str = ""
    slots: tuple[int, ...] = ()
    prompt: str = ""
    negative: str = ""
    count: int = 4
    keep: int | None = None
    budget: int | None = None
    floor: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    seed: int | None = None  # settled when the job is submitted, so that trying again makes the same pictures
    options: Mapping[str, Any] = field(default_factory=dict)
    pose: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    mask: str = ""
    out: str = ""
    format: str = "png"

    def request(self) -> Request:
        outside = ("template", "pose", "start", "mask", "out", "format")
        return Request(**{name: value for name, value in vars(self).items() if name not in outside})


def _check_make(hands: Hands, owner: str, given: Make) -> None:
    pictures = [name for name in ("template", "pose", "start", "mask") if getattr(given, name)]
    hands.studio(owner).check(given.request(), pictures)


def _make(hands: Hands, job: Job, given: Make, tick: Tick, show: Show) -> Mapping[str, Any]:
    made = hands.studio(job.owner).make(
        given.request(),
        template=Path(given.template) if given.template else None,
        pose={kind: Path(path) for kind, path in given.pose.items()},
        start=Path(given.start) if given.start else None,
        mask=Path(given.mask) if given.mask else None,
        out=Path(given.out) if given.out else None,
        format=given.format,
        run=job.id,
        show=show,
        tick=tick,
    )
    return {
        "folder": str(made.folder),
        "seed": made.seed,
        "summary": made.summary,
        "notes": _notes(made.notes),
        "portraits": [_portrait(result) for result in made.results],
    }


@dataclass(frozen=True, kw_only=True)
class Judge:
    name: str
    paths: tuple[str, ...]


def _judge(hands: Hands, job: Job, given: Judge, tick: Tick, show: Show) -> Mapping[str, Any]:
    results = hands.studio(job.owner).judge(_paths(given.paths), given.name, tick)
    notes = _notes({result.path.name: result.notes for result in results})
    return {"portraits": [_portrait(result) for result in results], "notes": notes}


@dataclass(frozen=True, kw_only=True)
class Fetch:
    ids: tuple[str, ...] = ()
    set: str = ""


def _fetch(hands: Hands, job: Job, given: Fetch, tick: Tick, show: Show) -> Mapping[str, Any]:
    return {"packs": hands.fetch(given.ids, given.set, tick)}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`file` is a table or a folder, see sheet.py; `styles`, `count`, `engine` and `seed` are for lines without."""

    file: str
    styles: tuple[str, ...] = ()
    count: int = 4
    engine: str = ""
    seed: int = 0  # part of every picture's own
    encoding: str = ""  # of a text table; empty: found out
    format: str = "png"
    report: str = ""  # empty: beside the file
    cluster: str = ""  # empty: here; "local" or a Ray cluster's address
    workers: int = 0  # 0: one a device

    @property
    def report_path(self) -> Path:
        return Path(self.report) if self.report else default_path(Path(self.file))


def _check_batch(hands: Hands, owner: str, given: Batch) -> None:
    hands.check_batch(given)


def _batch(hands: Hands, job: Job, given: Batch, tick: Tick, show: Show) -> Mapping[str, Any]:
    outcomes = hands.batch(given, job, tick, show)
    # Names stay in the report, which is the asker's own: what jobs keep must be forgotten with the person.
    return {"summary": summary(outcomes), "report": str(given.report_path)}


@dataclass(frozen=True, kw_only=True)
class Photos:
    paths: tuple[str, ...]


def _check(hands: Hands, job: Job, given: Photos, tick: Tick, show: Show) -> Mapping[str, Any]:
    seen = hands.studio(job.owner).check_photos(_paths(given.paths), tick)
    accepted = [
        {
            "photo_id": crop.photo_id,
            "photo_name": crop.photo_name,
            "quality": float(crop.quality),
            "caption": crop.caption,
            "tags": [{**asdict(tag), "confidence": float(tag.confidence)} for tag in crop.tags],
            "notes": [asdict(note) for note in crop.notes],
        }
        for crop in seen.crops
    ]
    return {"accepted": accepted, "rejections": [asdict(rejection) for rejection in seen.rejections]}


def _sort(hands: Hands, job: Job, given: Photos, tick: Tick, show: Show) -> Mapping[str, Any]:
    return asdict(hands.studio(job.owner).sort_album(_paths(given.paths), tick))


def _one(arguments: Any) -> tuple[str, ...]:
    return (arguments.name,)


KINDS: dict[str, Kind] = {
    "enrol": Kind(arguments=Enrol, run=_enrol, people=_one),
    "train": Kind(arguments=Train, run=_train, people=_one, check=_check_training),
    "make": Kind(arguments=Make, run=_make, people=lambda make: make.people, check=_check_make),
    "judge": Kind(arguments=Judge, run=_judge, people=_one),
    "batch": Kind(arguments=Batch, run=_batch, check=_check_batch),
    "fetch": Kind(arguments=Fetch, run=_fetch),
    "check": Kind(arguments=Photos, run=_check),
    "sort": Kind(arguments=Photos, run=_sort),
}


def read(kinds: Mapping[str, Kind], kind: str, arguments: Mapping[str, Any]) -> Any:
    """The arguments as the kind's dataclass. Raises UserError for unknown kinds and keys."""
    if kind not in kinds:
        raise UserError(f"There is no job of kind {kind!r}.", f"Known: {', '.join(kinds)}.")
    return build(kinds[kind].arguments, arguments, f"the {kind} job")


def _notes(pictures: Mapping[str, Sequence[Note]]) -> dict[str, list[dict[str, Any]]]:
    """Of pictures there is something to say about, by file name."""
    return {name: [asdict(note) for note in notes] for name, notes in pictures.items() if notes}


def _paths(paths: tuple[str, ...]) -> list[Path]:
    return [Path(path) for path in paths]


def _portrait(result: Result) -> dict[str, Any]:
    return {"id": result.id, "path": str(result.path), "verdicts": [_verdict(verdict) for verdict in result.verdicts]}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "call": verdict.call.value}
