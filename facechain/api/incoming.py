"""/v1/uploads, and the pictures that come with other requests."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, UploadFile

from facechain import bootstrap
from facechain.api import schemas
from facechain.api.auth import Owner
from facechain.api.errors import responses
from facechain.api.uploads import MAX_FILES, Uploads
from facechain.errors import Conflict, Missing, PhotoError
from facechain.types import Job, JobState

router = APIRouter(prefix="/uploads", tags=["uploads"])

MOST_BYTES = 300 * 2**20  # of one request
MOST_FILES = MAX_FILES
_CHUNK = 2**20

Pictures = Annotated[list[UploadFile], File(description="JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, GIF or RAW.")]


@router.post("", status_code=201, responses=responses(413), max_body_size=MOST_BYTES)
def upload(whose: Owner, pictures: Pictures) -> schemas.Upload:
    """Pictures for a later job: to paint into, or to be judged. Gone after a day."""
    batch, paths = receive(whose, pictures)
    return schemas.Upload(upload=batch, pictures=[path.name for path in paths])


def submit(kind: str, arguments: Mapping[str, Any], pictures: Sequence[UploadFile], whose: str, key: str) -> Job:
    """A job about these pictures."""
    batch, paths = receive(whose, pictures, key)
    jobs = bootstrap.jobs()
    try:
        job = jobs.submit(kind, {**arguments, "paths": [str(path) for path in paths]}, whose, key)
    except BaseException:
        if not key:
            _kept(whose).drop(batch)
        raise
    if job.state is JobState.DONE:  # asked before with this key, and the pictures have served
        _kept(whose).drop(batch)
    return job


def receive(whose: str, pictures: Sequence[UploadFile], key: str = "") -> tuple[str, list[Path]]:
    """Keeps the pictures; returns their upload and paths. The same key gives the same paths, as the job's digest needs.

    Raises PhotoError or UserError for what is no picture or too much, and keeps none then.
    """
    uploads, batch = _kept(whose), secrets.token_hex(8)
    if not pictures:
        raise PhotoError("There is no picture in this request.", "Send at least one file.")
    try:
        for picture in pictures:
            # This runs in a thread of its own, so the file is read and written without holding up anybody.
            asyncio.run(uploads.receive(batch, picture.filename or "", _chunks(picture), picture.size or 0))
        if key:
            batch = _settled(uploads, batch, hashlib.sha256(key.encode()).hexdigest()[:16])
    except BaseException:
        uploads.drop(batch)
        raise
    return batch, [path.absolute() for path in uploads.files(batch)]


def pictures_of(whose: str, batch: str) -> list[Path]:
    """What an upload holds. Raises Missing for an unknown or lapsed one, and for another's in the same words."""
    found = [path.absolute() for path in _kept(whose).files(batch)] if len(batch) == 16 else []
    if not found:
        raise Missing(f"There is no upload {batch!r}.", "Uploads lapse after a day; send the pictures again.")
    return found


def sweep() -> None:
    """Drops pictures, of pages too, that no job needs any more; see `facechain.jobs.retention`."""
    for owner in bootstrap.owners():
        bootstrap.jobs().sweep(owner)


def _kept(whose: str) -> Uploads:
    return Uploads(bootstrap.workspace_folder(whose))


def _settled(uploads: Uploads, batch: str, wanted: str) -> str:
    """Gives the upload its key's name, or takes the one that has it already."""
    new, old = uploads.folder(batch), uploads.folder(wanted)
    try:
        new.rename(old)
    except OSError:
        if _digests(uploads, batch) != _digests(uploads, wanted):
            raise Conflict("This key was used with other pictures.", "Use a new key for new work.") from None
        uploads.drop(batch)
    return wanted


def _digests(uploads: Uploads, batch: str) -> list[tuple[str, str]]:
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in uploads.files(batch)]


async def _chunks(picture: UploadFile) -> AsyncIterator[bytes]:
    while chunk := picture.file.read(_CHUNK):
        yield chunk
