"""What a portrait follows besides its words: edges, a skeleton or depth, drawn from a picture or drawn already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from facechain.errors import UserError
from facechain.types import Face, Mask, Photo, Pixels

KINDS = ("openpose", "depth", "canny")
OPTION = "control"  # as people write it: openpose, or canny:0.7,depth


def guides(
    given: object, pictures: Mapping[str, Pixels], draw: Callable[[str, Pixels], Pixels]
) -> dict[str, dict[str, Any]]:
    """The options engines read: "controls", kind → picture, and "control_scales", kind → how strictly.

    `pictures` holds "" → the picture to draw from, and kind → one drawn already. Without a wish the kinds drawn
    already are followed, or else the pose. Raises UserError when something is missing or not known.
    """
    scales = parse(given) or {kind: 1.0 for kind in pictures if kind}
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


def faceless(pixels: Pixels, heads: Sequence[tuple[Face, Mask]]) -> Pixels:
    """Every head a smooth blot of its own colours: whose face the picture shows is not to be followed.

    `heads`: hair and face of each, soft, at the picture's size; the face's box is covered whatever they say.
    """
    made = pixels
    for face, head in heads:
        covered = np.clip(head, 0, 1)
        left, top, right, bottom = face.box_px.round().astype(int)
        middle, half = (
            ((left + right) // 2, (top + bottom) // 2),
            (int(0.6 * (right - left)), int(0.6 * (bottom - top))),
        )
        cv2.ellipse(covered, middle, half, 0, 0, 360, 1.0, -1)
        blot = max(3, round(0.12 * face.height_px))
        wide = cv2.dilate(covered, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * blot + 1, 2 * blot + 1)))
        soft = cv2.GaussianBlur(wide, (0, 0), blot / 3)[:, :, None]
        colour = (pixels * covered[:, :, None]).sum((0, 1)) / max(float(covered.sum()), 1e-6)
        made = made * (1 - soft) + colour * soft
    return np.asarray(np.round(made), np.uint8)


def fitted(pixels: Pixels, width_px: int, height_px: int) -> Pixels:
    """No larger than it takes to fill a portrait: lines drawn finer than they are painted would fade."""
    scale = max(width_px / pixels.shape[1], height_px / pixels.shape[0])
    if scale >= 1:
        return pixels
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def face_points(pixels: Pixels, faces: Sequence[Face], width_px: int, height_px: int) -> list[list[float]]:
    """Eyes, nose and mouth corners of the largest face in 0…1 of a portrait of this shape that the picture fills.

    Raises UserError when there is no face, or the portrait would cut it off.
    """
    if not faces:
        raise UserError("No face can be found in the picture to follow.", "Take one with a clear face.")
    height, width = pixels.shape[:2]
    scale = max(width_px / width, height_px / height)
    over = (np.array([width, height]) * scale - (width_px, height_px)) / 2
    face = max(faces, key=lambda face: face.width_px * face.height_px)
    points = (face.points_px * scale - over) / (width_px, height_px)
    if points.min() < 0 or points.max() > 1:
        raise UserError("The face in the picture to follow lies outside the portrait.", "Crop the picture around it.")
    return [[round(float(x), 5), round(float(y), 5)] for x, y in points]


def parse(given: object) -> dict[str, float]:
    """Kind → how strictly it is followed, 0…2. Raises UserError for kinds and strengths that are not known."""
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
