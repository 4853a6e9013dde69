"""/v1/photos: which pictures can be learned from, and who is in an album."""

from __future__ import annotations

from fastapi import APIRouter

from facechain.api import incoming, schemas
from facechain.api.auth import Owner
from facechain.api.errors import responses
from facechain.api.jobs import IdempotencyKey, show

router = APIRouter(prefix="/photos", tags=["photos"])
_TAKES_FILES: dict = {"status_code": 202, "responses": responses(409, 413), "max_body_size": incoming.MOST_BYTES}


@router.post("/check", **_TAKES_FILES)
def check_photos(whose: Owner, photos: incoming.Pictures, key: IdempotencyKey = "") -> schemas.Job:
    """Every photo accepted, or rejected with a reason and advice; nobody is enrolled. The answer is a job."""
    return show(incoming.submit("check", {}, photos, whose, key))


@router.post("/sort", **_TAKES_FILES)
def sort_album(whose: Owner, photos: incoming.Pictures, key: IdempotencyKey = "") -> schemas.Job:
    """A mixed album sorted into persons, by photo name. The answer is a job."""
    return show(incoming.submit("sort", {}, photos, whose, key))
