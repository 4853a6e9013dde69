"""Around any diffusion engine: it learns and paints as before, and can paint into a picture too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.engines.inpaint.crop import Square, around, resized
from facechain.engines.inpaint.ground import blanked, grounds
from facechain.engines.inpaint.mask import face_mask
from facechain.engines.inpaint.paste import pasted
from facechain.engines.inpaint.repaint import BLOCK_PX, Repaint, in_blocks
from facechain.engines.weights import read_config
from facechain.errors import EngineError
from facechain.options import Option
from facechain.protocols import Engine, EngineCard, Identity, Landmarker, Paint, Parser, Tick, silent
from facechain.types import Canvas, Mask, Person, Photo, Pixels, Shot, Style

STRENGTH = 0.65  # enough for another person's features, little enough for the template's light and pose
SIDES_PX = {"sd15": 512, "sdxl": 1024}


class InpaintEngine:
    """`side_px` gives the size the base paints best; a face is painted at it, however large it is in the picture."""

    def __init__(
        self,
        inner: Engine,
        *,
        side_px: Callable[[], int],
        landmarker: Callable[[], Landmarker],
        parser: Callable[[], Parser],
    ) -> None:
        self.inner, self.card = inner, into_pictures(inner.card)
        self._side_px, self._landmarker, self._parser = side_px, landmarker, parser

    def check(self, style: Style, options: Mapping[str, Any]) -> None:
        own = {option.name for option in self.inner.card.options}
        self.inner.check(style, {name: value for name, value in options.items() if name != "strength" or name in own})

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        return self.inner.learn(person, tick)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        with self.inner.sitting(identity, style) as brush:
            yield _Brush(brush, self._repaint)

    def _repaint(self, brush: Paint, shot: Shot, onto: Canvas) -> Pixels:
        """One face of the picture becomes the person; no other pixel changes."""
        options = dict(shot.options)
        strength = _strength(options.pop("strength", STRENGTH))
        if strength == 0:
            return onto.pixels.copy()
        square = around(onto.faces[onto.slot], *onto.pixels.shape[:2])
        crop = square.cut(onto.pixels)
        below, mask = self._ground(square, crop, onto)
        if not mask.any():
            raise EngineError(
                f"Face {onto.slot + 1} of the template is wholly covered.", "Choose a picture with a clearer face."
            )
        side = self._side_px()
        canvas = Repaint(
            pixels=np.clip(resized(below, side), 0, 255).astype(np.uint8),
            faces=(square.moved(onto.faces[onto.slot], side / square.side),),
            slot=0,
            mask=in_blocks(resized(mask, side) > 1 / 255),
            strength=strength,
        )
        if "controls" in options:
            whole = options["controls"].items()
            options["controls"] = {kind: _cut(kind, photo, onto.pixels, square) for kind, photo in whole}
        near = replace(shot, width_px=side, height_px=side, options=options)
        painted = resized(brush(near, canvas), square.side)
        assert canvas.mask is not None
        kept = resized(canvas.mask.astype(np.float32), square.side) == 0
        return square.put(onto.pixels, pasted(crop, painted, mask, kept, below))

    def _ground(self, square: Square, crop: Pixels, onto: Canvas) -> tuple[Pixels, Mask]:
        """The crop without the other faces, and where it may change; neither depends on what is painted there."""
        faces = [square.moved(face) for face in onto.faces]
        owner = grounds(faces, square.side, square.side)
        below = blanked(crop, (owner >= 0) & (owner != onto.slot))
        face = faces[onto.slot]
        mesh, parts = self._landmarker().mesh(below, face), self._parser().parts(below, face)
        # A pixel less than the ground, as a neighbour's rounding may draw the border one pixel further.
        own = cv2.erode((owner == onto.slot).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return below, face_mask(crop.shape[:2], face, mesh, parts, own)


class _Brush:
    """As the inner engine's, and into pictures."""

    def __init__(self, inner: Paint, repaint: Callable[[Paint, Shot, Canvas], Pixels]) -> None:
        self._inner, self._repaint = inner, repaint

    def __call__(self, shot: Shot, onto: Canvas | None = None) -> Pixels:
        return self._inner(shot) if onto is None else self._repaint(self._inner, shot, onto)

    def many(self, shots: Sequence[Shot]) -> Iterator[Pixels]:
        """Painted freely, as they get ready; together where the inner engine can."""
        many = getattr(self._inner, "many", None)
        yield from many(shots) if many else map(self._inner, shots)


def _cut(kind: str, drawn: Photo, template: Pixels, square: Square) -> Photo:
    """Of what a ControlNet is to follow, the part that belongs to the square; it is drawn from the whole template."""
    if drawn.pixels.shape != template.shape:
        height, width = drawn.pixels.shape[:2]
        raise EngineError(
            f"The {kind} picture is {width}×{height} px, the template {template.shape[1]}×{template.shape[0]}.",
            "Leave it out: it is drawn from the template.",
        )
    part = f"{drawn.id}/{square.left},{square.top},{square.side}"
    return replace(drawn, id=part, pixels=square.cut(drawn.pixels))


def into_pictures(card: EngineCard) -> EngineCard:
    """The card of the engine around an engine of this card."""
    own = {option.name for option in card.options}
    more = () if "strength" in own else (Option(name="strength", kind="number", least=0, most=1, canvas=True),)
    return replace(card, paints_canvas=True, options=(*card.options, *more))


def native_side(base: Path, family: str) -> int:
    """The side in pixels a base was trained at, from its folder, or by its family when it is one file."""
    config: Mapping[str, Any] = {}
    if base.is_dir():
        config = read_config(base / "unet" / "config.json")
    side = config.get("sample_size")
    return (side if side and isinstance(side, int) else SIDES_PX[family] // BLOCK_PX) * BLOCK_PX


def _strength(given: Any) -> float:
    try:
        strength = float(given)
    except (TypeError, ValueError):
        raise EngineError(f"strength is {given!r}.", "Give a number from 0 to 1.") from None
    if not 0 <= strength <= 1:
        raise EngineError(f"strength is {strength:g}.", "Give a number from 0 to 1.")
    return strength
