"""People in and out of a server as archives; /v1 and the browser app answer with the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import File, Form, UploadFile
from fastapi.responses import StreamingResponse

from facechain.people.names import slug
from facechain.studio import Studio

if TYPE_CHECKING:
    from facechain.store.workspace import ImportedPerson

MEDIA_TYPE = "application/octet-stream"
MOST_PASSPHRASE = 1000  # characters

Archive = Annotated[UploadFile, File(description="As written by an export.")]
Name = Annotated[str, Form(max_length=200, description="Another name than the person has in the archive.")]
Passphrase = Annotated[str, Form(max_length=MOST_PASSPHRASE, description="Of an encrypted archive.")]
TrustSigner = Annotated[
    str,
    Form(
        max_length=40,
        pattern=r"^([0-9a-f]{8}(-[0-9a-f]{8}){3})?$",
        description="Fingerprint of the sender's key, once you have compared it with theirs; see `SignerUnknown`.",
    ),
]


def download(studio: Studio, person: str, passphrase: str) -> StreamingResponse:
    """The archive, made while it is sent; what speaks against it is raised before. Cut short, no import takes it."""
    chunks = studio.export_person(person, passphrase)
    name = f"{slug(person)}.tar{'.encrypted' if passphrase else ''}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return StreamingResponse(chunks, media_type=MEDIA_TYPE, headers=headers)


def receive(studio: Studio, archive: UploadFile, name: str, passphrase: str, trust_signer: str) -> ImportedPerson:
    return studio.import_person(archive.file, name=name, passphrase=passphrase, trust_signer=trust_signer)
