"""/v1/jobs: long work asked for, watched, stopped and tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request
from fastapi.openapi.models import Example
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from facechain import bootstrap, limits
from facechain.api import incoming, pages, places, schemas
from facechain.api.auth import MyStudio, Owner
from facechain.api.errors import responses
from facechain.types import Job, JobState

router = APIRouter(prefix="/jobs", tags=["jobs"])

ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
        description="Your own name for this request: sent again, it gives the same job and starts nothing new.",
    ),
]
Id = Annotated[str, Path(max_length=120, examples=["20260102-030405-0a1b2c"])]
Name = Annotated[str, Field(min_length=1, max_length=120)]
Text = Annotated[str, Field(max_length=limits.TEXT)]
Word = Annotated[str, Field(max_length=120)]
Settings = Annotated[dict[Word, bool | int | float | Text], Field(max_length=limits.OPTIONS)]
Count = Annotated[int, Field(ge=1, le=limits.PORTRAITS)]
Side = Annotated[
    int, Field(ge=64, le=4096, multiple_of=8, description="Pixels, where a picture is painted anew; else the style's.")
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Make(_Asked):
    """Portraits made, judged, and the true likenesses kept."""

    kind: Literal["make"]
    people: Annotated[list[Name], Field(min_length=1, max_length=limits.PEOPLE, description="Names or slugs.")]
    engine: Word = ""
    base: Annotated[Word, Field(description="Id of a pack with a Stable Diffusion base.")] = ""
    style: Word = ""
    template: Annotated[Word, Field(description="An upload with one picture to paint into.")] = ""
    faces: Annotated[
        list[Annotated[int, Field(ge=1, le=100)]],
        Field(max_length=limits.PEOPLE, description="Which face each person becomes, left to right, from 1."),
    ] = []
    prompt: Text = ""
    negative: Text = ""
    count: Count = 4
    keep: Count | None = None
    budget: Annotated[Count | None, Field(description="Go on until `keep` are the same person, at most this many.")] = (
        None
    )
    seed: Annotated[int | None, Field(ge=0, le=limits.SEED)] = None
    floor: Annotated[float | None, Field(ge=-1, le=1, description="Least likeness of a portrait that is kept.")] = None
    width_px: Side | None = None
    height_px: Side | None = None
    settings: Annotated[Settings, Field(description="The engine's own, e.g. strength.")] = {}
    format: Literal["png", "jpeg", "webp"] = "png"


class Train(_Asked):
    """A person learned into weights of their own; stopped, it goes on."""

    kind: Literal["train"]
    person: Name
    base: Annotated[Word, Field(description="Id of a pack with a Stable Diffusion base.")] = ""
    settings: Settings = {}


class Judge(_Asked):
    """Any pictures, judged against one person."""

    kind: Literal["judge"]
    person: Name
    upload: Annotated[Word, Field(description="An upload with the pictures.")]


class Fetch(_Asked):
    """Packs downloaded and verified."""

    kind: Literal["fetch"]
    packs: Annotated[list[Name], Field(min_length=1, max_length=100)]


Asked = Annotated[Make | Train | Judge | Fetch, Field(discriminator="kind")]

EXAMPLES: dict[str, Example] = {
    "make": {
        "summary": "Make four portraits",
        "value": {"kind": "make", "people": ["ada"], "style": "astronaut", "count": 4, "seed": 7},
    },
    "train": {"summary": "Learn a person", "value": {"kind": "train", "person": "ada", "settings": {"steps": 400}}},
    "judge": {"summary": "Is it her?", "value": {"kind": "judge", "person": "ada", "upload": "0f3a5c7e9b1d2468"}},
    "fetch": {"summary": "Fetch models", "value": {"kind": "fetch", "packs": ["landmarker"]}},
}


@router.post("", status_code=202, responses=responses(404, 409))
def submit_job(
    asked: Annotated[Asked, Body(openapi_examples=EXAMPLES)],
    studio: MyStudio,
    whose: Owner,
    key: IdempotencyKey = "",
) -> schemas.Job:
    """Puts work into the queue. What cannot work is refused at once; the rest is a job."""
    arguments = _checked(asked, studio, whose)
    return show(bootstrap.jobs().submit(asked.kind, arguments, whose, key))


@router.get("", responses=responses(404))
def list_jobs(
    whose: Owner,
    state: Annotated[list[JobState] | None, Query(description="Only these; all when none.")] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = "",
) -> schemas.Page[schemas.Job]:
    """Newest first."""
    before = pages.read(cursor)[0] if cursor else None
    found = bootstrap.jobs().list(whose, tuple(state or ()), limit + 1, before)
    more = pages.write((found[limit - 1].id,)) if len(found) > limit else None
    return schemas.Page(items=[show(job) for job in found[:limit]], next=more)


@router.get("/{id}", responses=responses(404))
def show_job(id: Id, whose: Owner) -> schemas.Job:
    """Where it stands."""
    return show(bootstrap.jobs().get(id, whose))


@router.post("/{id}/cancel", responses=responses(404, 409))
def cancel_job(id: Id, whose: Owner) -> schemas.Job:
    """Stops it: at once when it waits, at its next step when it runs."""
    return show(bootstrap.jobs().cancel(id, whose))


class Move(_Asked):
    position: Annotated[int, Field(ge=1, le=100_000, description="Its new place; 1 is next.", examples=[1])]


@router.post("/{id}/move", responses=responses(404, 409))
def move_job(id: Id, asked: Move, whose: Owner) -> schemas.Job:
    """Puts a waiting job at another place among your own waiting jobs."""
    return show(bootstrap.jobs().move(id, asked.position, whose))


@router.post("/{id}/retry", status_code=202, responses=responses(404, 409))
def retry_job(id: Id, whose: Owner) -> schemas.Job:
    """Puts a failed or cancelled job back into the queue; what it had finished is not done again."""
    return show(bootstrap.jobs().retry(id, whose))


def _watched(id: Id, whose: Owner) -> Job:
    """Looked for before the answer begins, when it can still be a refusal."""
    return bootstrap.jobs().get(id, whose)


@router.get("/{id}/events", response_class=EventSourceResponse, responses=responses(404, stream=True))
async def watch_job(
    id: Id, request: Request, first: Annotated[Job, Depends(_watched)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the job now and whenever it changes, named after its state, until it has ended."""
    job, last = first, None
    with request.app.state.lookout.watching(id) as look:
        while job is not None:  # it is when it was forgotten meanwhile
            if job != last:
                yield ServerSentEvent(event=job.state.value, data=show(job), retry=2000)
                last = job
            if job.state in ENDED:
                return
            job = await look()


def show(job: Job) -> schemas.Job:
    """Without owner and paths; pictures in the workspace become addresses."""
    values: dict[str, Any] = {name: getattr(job, name) for name in schemas.Job.model_fields}
    shown = places.Shown(job.owner)
    values |= {"error": shown.text(job.error), "next_step": shown.text(job.next_step)}
    values["preview"] = shown.picture(job.preview) if job.preview else None
    values["arguments"] = shown.value(job.arguments)
    values["result"] = shown.value(job.result) if job.result is not None else None
    return schemas.Job(**values)


def _checked(asked: Make | Train | Judge | Fetch, studio: Any, whose: str) -> dict[str, Any]:
    """Arguments as the queue takes them; what is not here is refused before it waits in line."""
    match asked:
        case Make():
            places.check_base(studio, asked.base)
            places.check_settings(studio, asked.settings)
            template = incoming.pictures_of(whose, asked.template)[0] if asked.template else ""
            values = asked.model_dump(exclude={"kind", "faces", "settings", "template"})
            slots = [face - 1 for face in asked.faces]
            return {**values, "slots": slots, "options": asked.settings, "template": str(template)}
        case Train():
            places.check_base(studio, asked.base)
            places.check_settings(studio, asked.settings)
            return {"name": asked.person, "base": asked.base, "settings": asked.settings}
        case Judge():
            studio.photos(asked.person)
            return {"name": asked.person, "paths": [str(path) for path in incoming.pictures_of(whose, asked.upload)]}
        case Fetch():
            for pack in asked.packs:
                places.check_pack(studio, pack)
            return {"ids": asked.packs}
