"""People in and out of the browser app as archives: a download by a form, an upload by a page's script."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from facechain.api import archives
from facechain.api.errors import status_of
from facechain.errors import FaceChainError, SignerUnknown
from facechain.ui.desk import CHANGES
from facechain.ui.pictures import desk_of

router = APIRouter(include_in_schema=False)


@router.post("/people/export/{person}")
def export(request: Request, person: str, passphrase: Annotated[str, Form(max_length=1000)] = "") -> Response:
    """The archive as a download; what speaks against it as text."""
    try:
        return archives.download(desk_of(request).faces, person, passphrase)
    except FaceChainError as error:
        return PlainTextResponse(f"{error.what} {error.next_step}", status_of(error))


@router.post("/people/import")
def import_(
    request: Request,
    archive: archives.Archive,
    name: archives.Name = "",
    passphrase: archives.Passphrase = "",
    trust_signer: archives.TrustSigner = "",
) -> Response:
    """The header keeps other sites' pages from sending any."""
    if request.headers.get("x-facechain") != "1":
        return JSONResponse({"what": "This is not a page of ours.", "next_step": "Use the app."}, 403)
    try:
        desk = desk_of(request)
        imported = archives.receive(desk.faces, archive, name.strip(), passphrase, trust_signer)
    except SignerUnknown as error:
        return JSONResponse({"signer": error.fingerprint}, status_of(error))
    except FaceChainError as error:
        return JSONResponse({"what": error.what, "next_step": error.next_step}, status_of(error))
    CHANGES.add(desk.owner)
    return JSONResponse({"name": imported.person.name})
