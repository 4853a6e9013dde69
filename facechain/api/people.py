"""/v1/people: who is here, add from photos, export, import, forget."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from facechain.api import archives, incoming, pages, schemas
from facechain.api.auth import MyStudio, Owner
from facechain.api.errors import responses
from facechain.api.jobs import IdempotencyKey, show
from facechain.people.consent import consent
from facechain.people.names import slug

router = APIRouter(prefix="/people", tags=["people"])
Who = Annotated[str, Path(max_length=120, description="Slug or name.", examples=["ada"])]


@router.get("", responses=responses())
def list_people(studio: MyStudio, limit: pages.Limit = 50, cursor: pages.Cursor = "") -> schemas.Page[schemas.Person]:
    """Everybody enrolled, by slug."""
    people = sorted(studio.people(), key=lambda person: person.slug)
    return pages.cut(people, lambda person: (person.slug,), schemas.Person.of, limit, cursor)


@router.post("", status_code=202, responses=responses(409, 413), max_body_size=incoming.MOST_BYTES)
def add_person(
    whose: Owner,
    studio: MyStudio,
    name: Annotated[str, Form(max_length=200, description="Who it is.", examples=["Ada"])],
    consent_by: Annotated[
        str, Form(max_length=200, description="Who agrees: the person, or their guardian.", examples=["Ada"])
    ],
    purpose: Annotated[
        str, Form(max_length=500, description="What the portraits are for.", examples=["profile pictures"])
    ],
    photos: incoming.Pictures,
    key: IdempotencyKey = "",
) -> schemas.Job:
    """Learns who somebody is from photos, with their consent. The answer is a job; its result lists every photo."""
    # What needs no look at the photos is refused now, not when the job's turn comes.
    agreed = consent(who=name, given_by=consent_by, purpose=purpose)
    if not key:
        studio.check_free(name)
    arguments = {"name": agreed.who, "consent_by": agreed.given_by, "purpose": agreed.purpose}
    return show(incoming.submit("enrol", arguments, photos, whose, key))


@router.post("/import", status_code=201, responses=responses(409, 413), max_body_size=incoming.MOST_BYTES)
def import_person(
    studio: MyStudio,
    archive: archives.Archive,
    name: archives.Name = "",
    passphrase: archives.Passphrase = "",
    trust_signer: archives.TrustSigner = "",
) -> schemas.ImportedPerson:
    """Adds the person of an archive. One of an unknown signer is refused, naming the fingerprint to compare."""
    return schemas.ImportedPerson.of(archives.receive(studio, archive, name, passphrase, trust_signer))


class Export(BaseModel):
    passphrase: str = Field(
        "", max_length=archives.MOST_PASSPHRASE, description="Encrypts the archive.", examples=["four words or more"]
    )
    model_config = ConfigDict(extra="forbid")


@router.post(
    "/{person}/export",
    response_class=StreamingResponse,
    responses={**responses(404), 200: {"content": {archives.MEDIA_TYPE: {}}}},
)
def export_person(person: Who, asked: Export, studio: MyStudio) -> StreamingResponse:
    """A signed archive: consent, photos, crops, trainings, and portraits that show nobody else."""
    return archives.download(studio, person, asked.passphrase)


@router.get("/{person}", responses=responses(404))
def show_person(person: Who, studio: MyStudio) -> schemas.PersonAndPhotos:
    """One person's consent and photos, with quality, caption and tags."""
    pictures = [schemas.Photo.of(photo) for photo in studio.photos(person)]
    summary = next(known for known in studio.people() if known.slug == slug(person))
    return schemas.PersonAndPhotos(**schemas.Person.of(summary).model_dump(), pictures=pictures)


@router.delete("/{person}", responses=responses(404))
def forget_person(person: Who, studio: MyStudio) -> schemas.Forgotten:
    """Deletes a person: photos, everything learned, every portrait that shows them, every job about them."""
    portraits = studio.forget(person)
    return schemas.Forgotten(forgotten=slug(person), portraits=portraits)
