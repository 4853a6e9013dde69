"""/v1/portraits: what was made, its pictures and recipes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

from facechain.api import pages, schemas
from facechain.api.auth import MyStudio
from facechain.api.errors import responses
from facechain.errors import Missing
from facechain.types import Call

router = APIRouter(prefix="/portraits", tags=["portraits"])
_PLAIN = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
_MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}

Part = Annotated[str, Path(max_length=120, pattern=_PLAIN)]


@router.get("", responses=responses(404))
def list_portraits(
    studio: MyStudio,
    person: Annotated[str, Query(max_length=120, description="Shows them; slug or name.")] = "",
    kept: Annotated[bool | None, Query(description="What the judge kept, or what it dropped.")] = None,
    call: Annotated[Call | None, Query(description="What the judge says of everybody shown.")] = None,
    engine: Annotated[str, Query(max_length=120)] = "",
    style: Annotated[str, Query(max_length=120)] = "",
    run: Annotated[str, Query(max_length=120, description="One sitting; the id of its job.")] = "",
    limit: pages.Limit = 50,
    cursor: pages.Cursor = "",
) -> schemas.Page[schemas.Portrait]:
    """What was made, newest first."""
    found, more = studio.page(
        person, kept=kept, call=call, engine=engine, style=style, run=run, limit=limit, after=_after(cursor)
    )
    last = pages.write((found[-1].made.isoformat(timespec="microseconds"), found[-1].key)) if more else None
    return schemas.Page(items=[schemas.Portrait.of(portrait) for portrait in found], next=last)


@router.get("/{person}/{run}/{id}", responses=responses(404))
def show_portrait(person: Part, run: Part, id: Part, studio: MyStudio) -> schemas.Portrait:
    """One portrait and its verdicts."""
    return schemas.Portrait.of(studio.portrait(f"{person}/{run}/{id}"))


@router.get(
    "/{person}/{run}/{id}/picture",
    response_class=FileResponse,
    responses={**responses(404), 200: {"content": {kind: {} for kind in _MEDIA.values()}}},
)
def show_picture(person: Part, run: Part, id: Part, studio: MyStudio) -> FileResponse:
    """The picture itself, with its recipe and the mark of a generated picture inside."""
    path = studio.portrait(f"{person}/{run}/{id}").path
    # A link that somebody put there leads nowhere.
    if not path.resolve().is_relative_to(studio.tools.workspace.folder.resolve()) or path.suffix not in _MEDIA:
        raise Missing(f"There is no picture {id!r} here.", "See the list of portraits.")
    return FileResponse(path, media_type=_MEDIA[path.suffix], headers={"Cache-Control": "private, no-store"})


@router.get("/{person}/{run}/{id}/recipe", responses=responses(404))
def show_recipe(person: Part, run: Part, id: Part, studio: MyStudio) -> dict[str, Any]:
    """Engine, packs with revisions, style, seed and shot: enough to paint the same picture again."""
    return dict(studio.portrait(f"{person}/{run}/{id}").recipe)


class Choice(BaseModel):
    kept: bool
    model_config = ConfigDict(extra="forbid")


@router.patch("/{person}/{run}/{id}", responses=responses(404))
def choose_portrait(person: Part, run: Part, id: Part, asked: Choice, studio: MyStudio) -> schemas.Portrait:
    """Keeps a portrait or puts it aside, whatever the judge chose; its likeness stays what it was."""
    return schemas.Portrait.of(studio.keep(f"{person}/{run}/{id}", asked.kept))


@router.delete("/{person}/{run}/{id}", status_code=204, responses=responses(404))
def delete_portrait(person: Part, run: Part, id: Part, studio: MyStudio) -> Response:
    """Deletes one portrait and everything known of it."""
    studio.delete([f"{person}/{run}/{id}"])
    return Response(status_code=204)


def _after(cursor: str) -> tuple[str, str] | None:
    if not cursor:
        return None
    made, key = (*pages.read(cursor), "")[:2]
    return made, key
