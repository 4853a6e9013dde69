"""What the API says, made from the studio's values; no picture, face vector or path of this machine is among it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, Field

from facechain.types import Call, JobState, NoteKind

if TYPE_CHECKING:
    from facechain.packs.fetch import Status
    from facechain.store.workspace import ImportedPerson as ImportedPersonValue
    from facechain.store.workspace import KeptPhoto, KeptPortrait, PersonSummary
    from facechain.studio import Offer
    from facechain.types import Consent as ConsentValue
    from facechain.types import Note as NoteValue
    from facechain.types import Style as StyleValue
    from facechain.types import Verdict as VerdictValue

Item = TypeVar("Item")


def readable(text: str) -> str:
    """File names may hold bytes that are no text; JSON cannot."""
    return text.encode("utf-8", "replace").decode()


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = Field(description="Send it as `cursor` for the following page; null on the last one.")


# ── people ───────────────────────────────────────────────────────────────────────────────────────


class Consent(BaseModel):
    who: str
    given_by: str
    purpose: str
    when: datetime

    @classmethod
    def of(cls, value: ConsentValue) -> Consent:
        return cls(**vars(value))


class Person(BaseModel):
    slug: str = Field(description="Names the person in addresses.", examples=["ada"])
    name: str = Field(examples=["Ada"])
    photos: int = Field(description="Photos engines learn from.")
    held_out: int = Field(description="Photos kept for the judge alone.")
    portraits: int
    consent: Consent

    @classmethod
    def of(cls, value: PersonSummary) -> Person:
        return cls(**{**vars(value), "consent": Consent.of(value.consent)})


class ImportedPerson(BaseModel):
    person: Person
    signer: str = Field(description="Fingerprint of the key the archive is signed with.")
    own: bool = Field(description="Whether that is this workspace's own key.")

    @classmethod
    def of(cls, value: ImportedPersonValue) -> ImportedPerson:
        return cls(person=Person.of(value.person), signer=value.signer, own=value.own)


class Tag(BaseModel):
    name: str
    value: str
    confidence: float


class Note(BaseModel):
    kind: NoteKind
    detail: str = Field(description="Degrees, format, frame number or size.")
    text: str

    @classmethod
    def of(cls, value: NoteValue) -> Note:
        return cls(**vars(value))


class Photo(BaseModel):
    id: str = Field(description="SHA-256 of the file.")
    name: str
    held_out: bool
    quality: float
    caption: str
    tags: list[Tag]
    notes: list[Note] = Field(description="What was done to read the file, e.g. that it was turned.")

    @classmethod
    def of(cls, value: KeptPhoto) -> Photo:
        tags = [Tag(**vars(tag)) for tag in value.tags]
        notes = [Note.of(note) for note in value.notes]
        return cls(**{**vars(value), "name": readable(value.name), "tags": tags, "notes": notes})


class PersonAndPhotos(Person):
    pictures: list[Photo]


class Forgotten(BaseModel):
    forgotten: str
    portraits: int


# ── looks ────────────────────────────────────────────────────────────────────────────────────────


class Style(BaseModel):
    id: str = Field(examples=["astronaut"])
    title: str
    group: str
    licence: str
    revision: str
    paints: str = Field(description='"into a picture" or "freely".')
    prompt: str
    negative: str
    bases: list[str] = Field(description="Families of bases it is made for; empty: any.")
    width_px: int
    height_px: int

    @classmethod
    def of(cls, value: StyleValue) -> Style:
        own = {name: getattr(value, name) for name in cls.model_fields if name not in ("paints", "bases")}
        return cls(**own, bases=list(value.bases), paints="into a picture" if value.template_pack else "freely")


class Engine(BaseModel):
    name: str = Field(examples=["template"])
    title: str
    summary: str
    learns: str
    bases: list[str]
    min_photos: int
    packs: list[str]
    needs_canvas: bool
    paints_canvas: bool
    commercial: str = Field(description='"yes", "no" or "ask", of its packs together.')
    missing: list[str] = Field(description="Packs to fetch first.")
    state: str = Field(description='"ready", or what it needs.')
    base: str = Field(description="What it would paint on; empty when it needs none or there is none for it.")
    options: dict[str, Any] = Field(description="JSON schema of what `settings` of a make job may hold.")
    training: dict[str, Any] | None = Field(description="And of a train job; null where nothing is trained.")

    @classmethod
    def of(cls, offer: Offer) -> Engine:
        card = {name: getattr(offer.card, name) for name in cls.model_fields if hasattr(offer.card, name)}
        told = {"commercial": offer.commercial, "missing": list(offer.missing), "state": offer.state}
        training = dict(offer.card.training.json_schema()) if offer.card.training else None
        card |= {"options": dict(offer.card.params.json_schema()), "training": training}
        return cls(**{**card, **told}, base=offer.base)


# ── packs ────────────────────────────────────────────────────────────────────────────────────────


class Pack(BaseModel):
    id: str = Field(examples=["landmarker"])
    title: str
    role: str
    family: str
    bytes: int
    present: bool
    verified: str
    licence: str
    commercial: str
    opt_in: bool

    @classmethod
    def of(cls, status: Status) -> Pack:
        return cls(**{name: getattr(status, name) for name in cls.model_fields})


class Licence(BaseModel):
    pack: str
    name: str
    commercial: str
    url: str


class Licences(BaseModel):
    commercial: str = Field(description="Of all packs asked for together: as free as the least free.")
    sentence: str
    packs: list[Licence]


# ── portraits ────────────────────────────────────────────────────────────────────────────────────


class Score(BaseModel):
    recogniser: str
    likeness: float
    normalised: float


class Verdict(BaseModel):
    person: str
    call: Call
    likeness: float | None = Field(description="To photos no engine saw; -1 to 1; null without a face.")
    likeness_given: float | None
    likeness_before: float | None
    copy_score: float | None
    held_out: bool
    faces: int
    face_share: float
    sharpness: float
    judge: str = Field(description="The recogniser of `likeness`, the first of `scores`.")
    kept: bool
    why: str
    llr: float | None = Field(description="Log-likelihood ratio (natural), same over different person; decides `call`.")
    scores: list[Score] = Field(description="Of every recogniser that had no part in the making.")
    disagree: bool
    closer: int = Field(description="Strangers of the cohort who are as close as the person is.")
    cohort: int = Field(description="Strangers there are.")
    recognisability: float | None = Field(description="0 to 1; below 0.6 more evidence is asked for.")
    copy_paste: float | None = Field(description="1 the given photo, -1 another photo of the person.")
    warp: float | None = Field(description="0 to 1: how surely the features are warped.")

    @classmethod
    def of(cls, value: VerdictValue) -> Verdict:
        return cls(**{**vars(value), "scores": [Score(**vars(score)) for score in value.scores]})


class Portrait(BaseModel):
    person: str = Field(description="Slug of the person whose folder it is in.")
    run: str = Field(description="The sitting it was made in; the id of its job.")
    id: str
    people: list[str]
    made: datetime
    engine: str
    style: str
    verdicts: list[Verdict]
    picture: str = Field(description="Address of the picture.")
    recipe: str = Field(description="Address of the recipe: everything needed to paint it again.")

    @classmethod
    def of(cls, value: KeptPortrait) -> Portrait:
        here = f"/v1/portraits/{value.key}"
        return cls(
            person=value.slug,
            run=value.run,
            id=value.id,
            people=list(value.people),
            made=value.made,
            engine=value.recipe.get("engine", ""),
            style=value.recipe.get("style", ""),
            verdicts=[Verdict.of(verdict) for verdict in value.verdicts],
            picture=f"{here}/picture",
            recipe=f"{here}/recipe",
        )


# ── uploads and jobs ─────────────────────────────────────────────────────────────────────────────


class Upload(BaseModel):
    upload: str = Field(description="Names these pictures in jobs, for a day.", examples=["0f3a5c7e9b1d2468"])
    pictures: list[str] = Field(description="Their names here.", examples=[["me.jpg"]])


class Job(BaseModel):
    id: str
    kind: str = Field(examples=["make"])
    state: JobState
    position: int | None = Field(description="Place in line, 1 is next; null unless queued.")
    stage: str
    done: int
    total: int
    eta_s: float | None
    preview: str | None = Field(description="Address of the newest picture.")
    cancelling: bool
    arguments: dict[str, Any]
    result: dict[str, Any] | None
    error: str
    next_step: str
    attempt: int
    created: datetime
    started: datetime | None
    seen: datetime | None
    ended: datetime | None
