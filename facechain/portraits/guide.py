"""What a portrait follows besides its words: edges, a skeleton or depth, drawn from a picture or drawn already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from facechain.errors import UserError
from facechain.types import Photo, Pixels

KINDS = ("openpose", "depth", "canny")
OPTION = "control"  # as people write it: openpose, or canny:0.7,depth


def guides(
    given: object, pictures: Mapping[str, Pixels], draw: Callable[[str, Pixels], Pixels]
) -> dict[str, dict[str, Any]]:
    """The options engines read: "controls", kind → picture, and "control_scales", kind → how strictly.

    `pictures` holds "" → the picture to draw from, and kind → one drawn already. Without a wish the kinds drawn
    already are followed, or else the pose. Raises UserError when something is missing or not known.
    """
    scales = _scales(given) or {kind: 1.0 for kind in pictures if kind}
    if not pictures:
        if scales:
            raise UserError(f"There is no picture for {', '.join(scales)}.", "Give one with --pose PICTURE.")
        return {}
    scales = scales or {KINDS[0]: 1.0}
    for kind in pictures:
        _known(kind or KINDS[0])
        if kind and kind not in scales:
            raise UserError(f"A picture for {kind} is given, which is not followed.", f"Add it: --set {OPTION}={kind}")
    made = {}
    for kind in scales:
        if kind not in pictures and "" not in pictures:
            raise UserError(f"There is no picture for {kind}.", f"Give --pose PICTURE, or --pose {kind}=PICTURE.")
        pixels = pictures[kind] if kind in pictures else draw(kind, pictures[""])
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        made[kind] = Photo(id=digest, name=kind, pixels=pixels)
    return {"controls": made, "control_scales": scales}


def _scales(given: object) -> dict[str, float]:
    made = {}
    for part in filter(None, (piece.strip() for piece in str(given or "").split(","))):
        kind, colon, scale = part.partition(":")
        try:
            made[_known(kind)] = float(scale) if colon else 1.0
        except ValueError:
            raise UserError(f"{part!r} is no way to follow a picture.", "Write for example canny:0.7,depth") from None
        if not 0 <= made[kind] <= 2:
            raise UserError(f"{kind} at {scale} is not known.", "Give a strength from 0 to 2.")
    return made


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise UserError(f"A portrait cannot follow {kind!r}.", f"Known: {', '.join(KINDS)}.")
    return kind
