"""/v1/packs: models and demo photos; what is here, fetch, licences."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from facechain import bootstrap
from facechain.api import pages, places, schemas
from facechain.api.auth import MyStudio, Owner
from facechain.api.errors import responses
from facechain.api.jobs import IdempotencyKey, show

router = APIRouter(prefix="/packs", tags=["packs"])


@router.get("", responses=responses())
def list_packs(studio: MyStudio, limit: pages.Limit = 200, cursor: pages.Cursor = "") -> schemas.Page[schemas.Pack]:
    """Every pack, by id, and whether it is here and verified."""
    packs = sorted(studio.tools.packs.list(), key=lambda status: status.id)
    return pages.cut(packs, lambda status: (status.id,), schemas.Pack.of, limit, cursor)


@router.get("/licences", responses=responses(404))
def show_licences(
    studio: MyStudio, pack: Annotated[list[str] | None, Query(max_length=200, description="All when none.")] = None
) -> schemas.Licences:
    """What each pack allows, and what they allow together."""
    for id in pack or ():
        places.check_pack(studio, id)
    chosen = pack or list(studio.tools.packs.manifests)
    together = studio.tools.packs.licences(chosen)
    each = [
        schemas.Licence(pack=id, name=licence.name, commercial=licence.commercial, url=licence.url)
        for id, licence in together.parts
    ]
    return schemas.Licences(commercial=together.commercial, sentence=together.sentence, packs=each)


@router.post("/{pack}/fetch", status_code=202, responses=responses(404, 409))
def fetch_pack(
    pack: Annotated[str, Path(max_length=120, examples=["landmarker"])],
    studio: MyStudio,
    whose: Owner,
    key: IdempotencyKey = "",
) -> schemas.Job:
    """Downloads a pack and verifies it; nothing happens when it is here. The answer is a job."""
    places.check_pack(studio, pack)
    return show(bootstrap.jobs().submit("fetch", {"ids": [pack]}, whose, key))
