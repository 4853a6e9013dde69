"""A painting pipeline becomes its inpainting and ControlNet sibling, over the very same weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facechain.errors import EngineError
from facechain.types import Canvas, Pixels, Shot

BLOCK_PX = 8  # of a picture for one latent


@dataclass(frozen=True, kw_only=True, eq=False)
class Guide:
    """A ControlNet and the picture it is shown."""

    kind: str
    net: Callable[[], Any]  # a diffusers ControlNetModel
    picture: Pixels
    scale: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Repaint(Canvas):
    """A canvas at the size to be painted. Without a mask nothing lies under the brush and only the guides count."""

    mask: NDArray[np.bool_] | None  # (H, W): where the base may paint, in whole latents
    strength: float = 1.0  # 0…1: how much of the way from noise to picture is painted anew
    guides: tuple[Guide, ...] = ()


def in_blocks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask grown to whole latents, each of which is painted or kept."""
    height, width = mask.shape
    blocks = mask.reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX).any((1, 3))
    return blocks.repeat(BLOCK_PX, 0).repeat(BLOCK_PX, 1)


def steps_for(steps: int, strength: float) -> int:
    """So many that one at least is left of them at this strength, as diffusers counts."""
    steps = max(steps, math.ceil(1 / strength))
    return steps if int(steps * strength) else steps + 1


def skipped(onto: Canvas | None, steps: int) -> int:
    """How many of the steps are not painted, as the picture below takes their place."""
    if not isinstance(onto, Repaint) or onto.mask is None:
        return 0
    steps = steps_for(steps, onto.strength)
    return steps - min(int(steps * onto.strength), steps)


def points_of(onto: Canvas | None, shot: Shot) -> tuple[tuple[float, float], ...]:
    """The five points of the canvas's face in 0…1 of the picture; none without a canvas."""
    if onto is None or not onto.faces:
        return ()
    height, width = onto.pixels.shape[:2]
    return tuple((float(x / width), float(y / height)) for x, y in onto.faces[onto.slot].points_px)


def arrange(pipe: Any, onto: Canvas | None, inputs: dict[str, Any], steps: int) -> tuple[Any, dict[str, Any], int]:
    """The pipeline to call instead of `pipe`, its inputs, and its number of steps.

    Raises EngineError for a canvas that was not prepared, and for an inpainting base without one.
    """
    if onto is not None and not isinstance(onto, Repaint):
        raise EngineError("This engine paints whole pictures.", "Leave the template out, or use --engine template.")
    guides = onto.guides if onto is not None else ()
    if guides:
        pipe, inputs = _guided(pipe, guides, inputs)
    if onto is None or onto.mask is None:
        if pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
            raise EngineError(
                "This base was made to paint into pictures only.", "Give one with --template IMAGE, or another base."
            )
        return pipe, inputs, steps
    renamed = dict(inputs)
    renamed.pop("latents", None)  # would be taken for noise alone, and the picture below be forgotten
    if "image" in renamed:
        renamed["control_image"] = renamed.pop("image")
    more = {
        "image": onto.pixels[None].astype(np.float32) / 255,
        "mask_image": onto.mask.astype(np.float32)[None],
        "strength": float(onto.strength),
    }
    return sibling(pipe, "InpaintPipeline"), {**renamed, **more}, steps_for(steps, onto.strength)


def guided_by(pipe: Any, net: Any) -> Any:
    """The pipeline over the same weights that a ControlNet looks on with."""
    return sibling(pipe, "ControlNetPipeline", controlnet=net)


def _guided(pipe: Any, guides: tuple[Guide, ...], inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """With the guides' ControlNets beside any that `pipe` has; those come first, as their inputs do."""
    from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
    from PIL import Image

    own = getattr(pipe, "controlnet", None)
    nets: list[Any] = [] if own is None else list(own.nets) if isinstance(own, MultiControlNetModel) else [own]
    pictures, scales = _listed(inputs.get("image")), _listed(inputs.get("controlnet_conditioning_scale"))
    place = pipe.unet
    for guide in guides:
        nets.append(guide.net().to(place.device, place.dtype))
        pictures.append(Image.fromarray(guide.picture))
        scales.append(guide.scale)
    kind = "" if own is not None else "ControlNetPipeline"
    made = sibling(pipe, kind, controlnet=MultiControlNetModel(nets))
    return made, {**inputs, "image": pictures, "controlnet_conditioning_scale": scales}


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def sibling(pipe: Any, ending: str, **parts: Any) -> Any:
    """A pipeline of the class whose name ends so, over the same loaded parts, some replaced; `pipe` stays as it is."""
    import diffusers

    name = type(pipe).__name__
    if ending and not name.endswith(ending):
        name = name.removesuffix("Pipeline") + ending
    cls = getattr(diffusers, name)
    wanted = inspect.signature(cls.__init__).parameters
    given = {**pipe.components, **parts}
    shared = {part: value for part, value in given.items() if part in wanted}
    if "requires_safety_checker" in wanted:
        shared["requires_safety_checker"] = shared.get("safety_checker") is not None
    made = cls(**shared)
    made.set_progress_bar_config(disable=True)
    return made
