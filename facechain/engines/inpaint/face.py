"""One face of a picture becomes the person; no other pixel changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.engines.diffusion.base import family_of
from facechain.engines.diffusion.params import INPAINTING_STRENGTH, SamplingParams
from facechain.engines.inpaint.crop import Square, around, resized
from facechain.engines.inpaint.ground import blanked, grounds
from facechain.engines.inpaint.mask import face_mask
from facechain.engines.inpaint.paste import pasted
from facechain.engines.inpaint.repaint import BLOCK_PX, Repaint, in_blocks
from facechain.engines.weights import read_config
from facechain.errors import EngineError
from facechain.protocols import Landmarker, Parser
from facechain.types import Canvas, Mask, Photo, Pixels, Shot

SIDES_PX = {"sd15": 512, "sdxl": 1024}


class FaceInpainter:
    def __init__(self, landmarker: Landmarker, parser: Parser) -> None:
        self._landmarker, self._parser = landmarker, parser

    def paint(
        self, sample: Callable[[Shot, Repaint], Pixels], shot: Shot, params: SamplingParams, onto: Canvas, base: Path
    ) -> Pixels:
        """The picture with the canvas's face painted by `sample`, at the size `base` was trained at.

        Raises EngineError when the face is wholly covered.
        """
        strength = INPAINTING_STRENGTH if params.denoising_strength is None else params.denoising_strength
        if strength == 0:
            return onto.pixels.copy()
        square = around(onto.faces[onto.slot], *onto.pixels.shape[:2])
        crop = square.cut(onto.pixels)
        below, mask = self._region(square, crop, onto)
        if not mask.any():
            raise EngineError(
                f"Face {onto.slot + 1} of the template is wholly covered.", "Choose a picture with a clearer face."
            )
        side = native_side(base, family_of(base))
        canvas = Repaint(
            pixels=np.clip(resized(below, side), 0, 255).astype(np.uint8),
            faces=(square.moved(onto.faces[onto.slot], side / square.side),),
            slot=0,
            mask=in_blocks(resized(mask, side) > 1 / 255),
            strength=strength,
        )
        options = dict(shot.options)
        if params.controls:
            options["controls"] = {k: _cut(k, photo, onto.pixels, square) for k, photo in params.controls.items()}
        near = replace(shot, width_px=side, height_px=side, options=options)
        painted = resized(sample(near, canvas), square.side)
        assert canvas.mask is not None
        kept = resized(canvas.mask.astype(np.float32), square.side) == 0
        return square.put(onto.pixels, pasted(crop, painted, mask, kept, below))

    def _region(self, square: Square, crop: Pixels, onto: Canvas) -> tuple[Pixels, Mask]:
        """The crop without the other faces, and where it may change; neither depends on what is painted there."""
        faces = [square.moved(face) for face in onto.faces]
        owner = grounds(faces, square.side, square.side)
        below = blanked(crop, (owner >= 0) & (owner != onto.slot))
        face = faces[onto.slot]
        mesh, parts = self._landmarker.mesh(below, face), self._parser.parts(below, face)
        # A pixel less than the region, as a neighbour's rounding may draw the border one pixel further.
        own = cv2.erode((owner == onto.slot).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return below, face_mask(crop.shape[:2], face, mesh, parts, own)


def _cut(kind: str, image: Photo, template: Pixels, square: Square) -> Photo:
    """The part of a ControlNet image that belongs to the square; it was made from the whole template."""
    if image.pixels.shape != template.shape:
        height, width = image.pixels.shape[:2]
        raise EngineError(
            f"The {kind} image is {width}×{height} px, the template {template.shape[1]}×{template.shape[0]}.",
            "Leave it out: it is made from the template.",
        )
    part = f"{image.id}/{square.left},{square.top},{square.side}"
    return replace(image, id=part, pixels=square.cut(image.pixels))


def native_side(base: Path, family: str) -> int:
    """The side in pixels a base was trained at, from its folder, or by its family when it is one file."""
    config: Mapping[str, Any] = read_config(base / "unet" / "config.json") if base.is_dir() else {}
    side = config.get("sample_size")
    return (side if side and isinstance(side, int) else SIDES_PX[family] // BLOCK_PX) * BLOCK_PX
