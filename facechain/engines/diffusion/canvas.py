"""What sampling starts from: noise, an initial image, or part of a picture; and the images its ControlNets see."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from facechain.engines.diffusion.params import IMG2IMG_STRENGTH, SamplingParams
from facechain.engines.inpaint.paste import pasted
from facechain.engines.inpaint.repaint import Guide, Repaint, in_blocks
from facechain.errors import EngineError
from facechain.types import Canvas, Mask, Photo, Pixels, Shot

ControlNets: TypeAlias = Callable[[str, str], Any]  # type, and a folder, file or pack of one's own → ControlNetModel


def canvas_for(params: SamplingParams, shot: Shot, onto: Canvas | None, controlnets: ControlNets) -> Repaint | None:
    """The canvas of a shot's own pictures, joined to the one given; None: noise alone.

    Raises EngineError for an initial image beside a template, a denoising strength of 0, or an unknown ControlNet.
    """
    guides = tuple(_guide(kind, params, shot, controlnets) for kind in params.controls)
    if onto is not None:
        if params.init_image is not None:
            raise EngineError("A template is its own initial image.", "Leave out the initial image, or the template.")
        if not isinstance(onto, Repaint):
            raise EngineError("This session paints whole pictures.", "Leave the template out.")
        return dataclasses.replace(onto, guides=(*onto.guides, *guides))
    if params.init_image is None:
        if not guides:
            return None
        blank = np.zeros((shot.height_px, shot.width_px, 3), np.uint8)
        return Repaint(pixels=blank, faces=(), slot=0, mask=None, guides=guides)
    strength = IMG2IMG_STRENGTH if params.denoising_strength is None else params.denoising_strength
    if not strength:
        raise EngineError("denoising_strength is 0.", "Give a number above 0 and up to 1.")
    start = fitted(params.init_image, shot)
    mask = in_blocks(_soft_mask(params, shot) > 0)
    return Repaint(pixels=start, faces=(), slot=0, mask=mask, strength=strength, guides=guides)


def masked(painted: Pixels, canvas: Repaint | None, params: SamplingParams, shot: Shot) -> Pixels:
    """With a mask of the shot's own, only what is white in it differs from the initial image, by not a bit else."""
    if params.mask is None or canvas is None or canvas.mask is None or canvas.faces:
        return painted
    return pasted(canvas.pixels, painted, _soft_mask(params, shot), ~canvas.mask, canvas.pixels)


def fitted(photo: Photo, shot: Shot) -> Pixels:
    """The picture's middle at the shot's size and proportions."""
    height, width = photo.pixels.shape[:2]
    scale = max(shot.width_px / width, shot.height_px / height)
    wide, high = shot.width_px / scale, shot.height_px / scale
    box = ((width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2)
    size = (shot.width_px, shot.height_px)
    return np.asarray(Image.fromarray(photo.pixels).resize(size, Image.Resampling.BICUBIC, box=box), np.uint8)


def _soft_mask(params: SamplingParams, shot: Shot) -> Mask:
    """(H, W) in 0…1: how far each pixel of the initial image may change."""
    if params.mask is None:
        return np.ones((shot.height_px, shot.width_px), np.float32)
    return (fitted(params.mask, shot).mean(axis=2) / 255).astype(np.float32)


def _guide(kind: str, params: SamplingParams, shot: Shot, controlnets: ControlNets) -> Guide:
    own = str(getattr(params, f"controlnet_{kind}", ""))
    image = fitted(params.controls[kind], shot)
    return Guide(
        kind=kind, net=lambda: controlnets(kind, own), picture=image, scale=params.control_scales.get(kind, 1.0)
    )
