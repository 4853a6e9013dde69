"""/v1/styles and /v1/engines: the looks to choose from and the ways to paint."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from facechain.api import pages, places, schemas
from facechain.api.auth import MyStudio
from facechain.api.errors import responses

router = APIRouter(tags=["looks"])


@router.get("/styles", responses=responses())
def list_styles(studio: MyStudio, limit: pages.Limit = 200, cursor: pages.Cursor = "") -> schemas.Page[schemas.Style]:
    """Every look, by id."""
    styles = sorted(studio.styles(), key=lambda style: style.id)
    return pages.cut(styles, lambda style: (style.id,), schemas.Style.of, limit, cursor)


@router.get("/styles/{style}", responses=responses(404))
def show_style(style: Annotated[str, Path(max_length=120, examples=["astronaut"])], studio: MyStudio) -> schemas.Style:
    """One look."""
    return schemas.Style.of(studio.style(style))


@router.get("/engines", responses=responses(404))
def list_engines(
    studio: MyStudio,
    base: Annotated[str, Query(max_length=120, description="A pack to paint on; empty: the default.")] = "",
) -> list[schemas.Engine]:
    """Every way to paint: what it needs, what it allows, whether it can run here."""
    places.check_base(studio, base)
    return [schemas.Engine.of(offer) for offer in studio.engines(base)]
