"""Pictures on their way out, and photos on their way in: every address is an id in the asker's own workspace.

Nothing here takes a path.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from PIL import Image
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from facechain.errors import Busy, FaceChainError, UserError
from facechain.people.names import slug
from facechain.ui import looks
from facechain.ui.desk import Desk
from facechain.ui.phrases import Words
from facechain.ui.sessions import OWNER
from facechain.ui.thumbnails import Thumbnails, webp

_CHUNK_BYTES = 2**20
WIDTHS = (160, 240, 320, 480, 960)  # px; what a page may ask for, so that nobody asks for a thousand sizes
_PRIVATE = {
    "Cache-Control": "private, max-age=600",
    "Vary": "Cookie",  # whoever signs in next in this browser finds nothing in its cache
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}

THUMBNAILS = Thumbnails()
router = APIRouter(include_in_schema=False)


def desk_of(request: Request) -> Desk:
    owner = request.scope.get(OWNER)
    if owner is None:
        raise UserError("Log in first.", "")
    return Desk(owner=owner, w=Words())


async def _serve(find: Callable[[], Response | Future[bytes]]) -> Response:
    """What `find` gives: an answer, or a thumbnail that may still be in the making."""
    try:
        found = await run_in_threadpool(find)
        if isinstance(found, Response):
            return found
        small = await asyncio.shield(asyncio.wrap_future(found))  # others may wait for it, too
        return Response(small, media_type="image/webp", headers=_PRIVATE)
    except Busy as busy:
        return Response(str(busy), 503, media_type="text/plain", headers={"Retry-After": "2"})
    except (FaceChainError, OSError, KeyError):
        # One answer for what is not there and what is another's.
        return Response("There is no such picture.", status_code=404, media_type="text/plain")


def _picture(path: Path, width: int, name: str = "") -> Response | Future[bytes]:
    if width in WIDTHS:
        return THUMBNAILS.of(path, width)
    headers = {**_PRIVATE, **({"Content-Disposition": f'attachment; filename="{name}"'} if name else {})}
    return FileResponse(path, headers=headers)


@router.get("/pictures/photo/{person}/{photo_id}")
async def photo(request: Request, person: str, photo_id: str, w: int = 320) -> Response:
    """What was learned from: the crop of an enrolled photo."""

    def find() -> Future[bytes]:
        png = desk_of(request).faces.tools.workspace.crop_png(person, photo_id)
        width = w if w in WIDTHS else 320
        key = (hashlib.sha256(png).digest(), width)
        return THUMBNAILS.once(key, lambda: webp(Image.open(io.BytesIO(png), formats=("PNG",)), width))

    return await _serve(find)


@router.get("/pictures/upload/{batch}/{name}")
async def uploaded(request: Request, batch: str, name: str, w: int = 240, upright: bool = False) -> Response:
    """A photo as it was sent, or `upright` as it is painted into: turned, or a later frame."""

    def find() -> Response | Future[bytes]:
        desk, width = desk_of(request), w if w in WIDTHS else 240
        path = desk.uploads.file(batch, name)
        if upright:
            return THUMBNAILS.of(path, width, lambda: desk.faces.faces(path).photo.pixels)
        return _picture(path, width)

    return await _serve(find)


@router.get("/pictures/portrait/{person}/{run}/{id}")
async def portrait(request: Request, person: str, run: str, id: str, w: int = 0, save: int = 0) -> Response:
    def find() -> Response | Future[bytes]:
        found = desk_of(request).faces.portrait(f"{person}/{run}/{id}")
        return _picture(found.path, w, f"{person}-{found.path.name}" if save else "")

    return await _serve(find)


@router.get("/pictures/style/{id}")
async def style(request: Request, id: str, w: int = 320) -> Response:
    """The picture a style paints into, or a drawing of how it will look."""

    def find() -> Response | Future[bytes]:
        faces = desk_of(request).faces
        wanted = faces.style(id)
        if wanted.template_pack and faces.tools.packs.status(wanted.template_pack).present:
            path = faces.tools.packs.path(wanted.template_pack, wanted.template_file)
            return _picture(path, w if w in WIDTHS else 320)
        headers = {**_PRIVATE, "Cache-Control": "public, max-age=86400"}
        return Response(looks.draw(wanted), media_type="image/svg+xml", headers=headers)

    return await _serve(find)


@router.get("/pictures/sample/{person}/{training}/{step}/{name}")
async def sample(request: Request, person: str, training: str, step: str, name: str, w: int = 240) -> Response:
    """A picture a training painted on the way."""

    def find() -> Response | Future[bytes]:
        found = desk_of(request).faces.training(slug(person))
        samples = found.samples if found else ()
        paths = {(p.parts[-4], p.parent.name, p.name): p for p in samples}
        return _picture(paths[training, step, name], w if w in WIDTHS else 240)

    return await _serve(find)


@router.get("/export")
async def export(request: Request, keys: str) -> Response:
    """A zip of portraits, their keys separated by commas."""

    def find() -> Response | Future[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - without a name: it goes with us, however we end
        try:
            desk_of(request).faces.export(keys.split(","), file)
            size = file.tell()
            file.seek(0)
        except BaseException:
            file.close()
            raise
        headers = {"Content-Disposition": 'attachment; filename="portraits.zip"', "Content-Length": str(size)}
        chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
        return StreamingResponse(
            chunks, media_type="application/zip", headers=headers, background=BackgroundTask(file.close)
        )

    return await _serve(find)


@router.post("/uploads/{batch}")
async def upload(request: Request, batch: str, name: str) -> Response:
    """One photo as the body. The header keeps other sites' pages from sending any."""
    if request.headers.get("x-facechain") != "1":
        return JSONResponse({"what": "This is not a page of ours.", "next_step": "Use the app."}, 403)
    try:
        announced = int(request.headers.get("content-length") or 0)
        path = await desk_of(request).uploads.receive(batch, name, request.stream(), announced)
    except FaceChainError as error:
        # The rest is read and thrown away, or the browser would see a broken connection instead of the reason;
        # a body far too large is not worth that.
        if announced < 100_000_000:
            await _drain(request)
        return JSONResponse({"what": error.what, "next_step": error.next_step}, 413 if "larger" in error.what else 422)
    return JSONResponse({"name": path.name})


async def _drain(request: Request) -> None:
    try:
        async with asyncio.timeout(20):
            async for _ in request.stream():
                pass
    except Exception:  # already read, or the browser went away: either way there is nothing left to do
        return
