"""What a shot begins from: noise, a picture, or part of one; and the pictures its ControlNets follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from facechain.engines.inpaint.paste import pasted
from facechain.engines.inpaint.repaint import Guide, Repaint, in_blocks
from facechain.errors import EngineError
from facechain.types import Canvas, Mask, Photo, Pixels, Shot

Nets: TypeAlias = Callable[[str, str], Any]  # what is followed, and a folder or file of one's own -> ControlNetModel


def begin(chosen: Any, shot: Shot, onto: Canvas | None, controlnets: Nets | None = None) -> Canvas | None:
    """The canvas for a shot's own pictures, joined to the one given; None: noise.

    Raises EngineError for a mask without a start picture, a strength beyond 0…1, or a ControlNet nobody has.
    """
    guides = tuple(_guide(kind, chosen, shot, controlnets) for kind in chosen.controls)
    if onto is not None and chosen.start is not None:
        raise EngineError("A template is begun from itself.", "Leave the start picture out, or the template.")
    if onto is not None:
        return dataclasses.replace(onto, guides=(*onto.guides, *guides)) if isinstance(onto, Repaint) else onto
    if chosen.start is None:
        if chosen.mask is not None:
            raise EngineError("A mask was given without a start picture.", "Name the picture too, or leave it out.")
        if not guides:
            return None
        blank = np.zeros((shot.height_px, shot.width_px, 3), np.uint8)
        return Repaint(pixels=blank, faces=(), slot=0, mask=None, guides=guides)
    if not 0 < chosen.strength <= 1:
        raise EngineError(f"strength is {chosen.strength:g}.", "Give a number above 0 and up to 1.")
    soft = _soft(chosen, shot)
    start = _fitted("start", chosen.start, shot)
    return Repaint(pixels=start, faces=(), slot=0, mask=in_blocks(soft > 0), strength=chosen.strength, guides=guides)


def finished(painted: Pixels, below: Canvas | None, chosen: Any, shot: Shot) -> Pixels:
    """With a mask of the shot's own: only what is white in it differs from the start picture, by not a bit else."""
    if chosen.mask is None or not isinstance(below, Repaint) or below.mask is None or below.faces:
        return painted
    return pasted(below.pixels, painted, _soft(chosen, shot), ~below.mask, below.pixels)


def _soft(chosen: Any, shot: Shot) -> Mask:
    """(H, W) in 0…1: how far each pixel of the start picture may change."""
    if chosen.mask is None:
        return np.ones((shot.height_px, shot.width_px), np.float32)
    return (_fitted("mask", chosen.mask, shot).mean(axis=2) / 255).astype(np.float32)


def _guide(kind: str, chosen: Any, shot: Shot, controlnets: Nets | None) -> Guide:
    if controlnets is None:
        raise EngineError(f"There is no ControlNet named {kind!r} here.", "Leave it out.")
    own = str(getattr(chosen, f"controlnet_{kind}", ""))
    picture = _fitted(kind, chosen.controls[kind], shot)
    scale = float(chosen.control_scales.get(kind, 1.0))
    return Guide(kind=kind, net=lambda: controlnets(kind, own), picture=picture, scale=scale)


def _fitted(name: str, photo: Any, shot: Shot) -> Pixels:
    """The picture's middle at the shot's size and proportions."""
    if not isinstance(photo, Photo):
        raise EngineError(f"{name} is {photo!r}, not a picture.", f"Give a picture for {name}.")
    height, width = photo.pixels.shape[:2]
    scale = max(shot.width_px / width, shot.height_px / height)
    wide, high = shot.width_px / scale, shot.height_px / scale
    box = ((width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2)
    size = (shot.width_px, shot.height_px)
    return np.asarray(Image.fromarray(photo.pixels).resize(size, Image.Resampling.BICUBIC, box=box), np.uint8)
