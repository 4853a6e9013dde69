"""Latents to pixels: the one place where a diffusers pipeline is called, for every engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facechain.engines.diffusion.canvas import masked
from facechain.engines.diffusion.lead import Lead, led
from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.samplers import scheduler
from facechain.engines.diffusion.setup import attention
from facechain.engines.diffusion.words import Encoder
from facechain.engines.inpaint.repaint import Repaint, arrange
from facechain.errors import EngineError
from facechain.types import Pixels, Shot

log = logging.getLogger(__name__)

LATENT_PX = 8  # pixels of a picture per latent


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioning:
    """What an engine contributes to one shot: the pipeline to call and its inputs."""

    pipe: Any  # the base's, or one over the same weights with the engine's own parts
    inputs: Mapping[str, Any] = field(default_factory=dict)  # prompt embeddings, ControlNet images, callbacks


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """A shot with all that decides its pixels."""

    shot: Shot
    params: SamplingParams
    conditioning: Conditioning
    canvas: Repaint | None = None


def sample_all(items: Sequence[Item], face_guidance: Callable[[], Lead] | None = None) -> list[Pixels]:
    """In order; items of equal size, parameters and input shapes share a call of the pipeline."""
    alike: list[tuple[Item, list[int]]] = []
    for index, item in enumerate(items):
        members = next((members for first, members in alike if _batchable(first, item)), None)
        if members is None:
            alike.append((item, [index]))
        else:
            members.append(index)
    made: dict[int, Pixels] = {}
    for first, members in alike:
        group = [items[index] for index in members]
        painted = sample(
            [item.shot for item in group],
            first.params,
            [item.conditioning for item in group],
            first.canvas,
            face_guidance,
        )
        made.update(zip(members, painted, strict=True))
    return [made[index] for index in range(len(items))]


def text_to_image(pipe: Any, shots: Sequence[Shot], params: SamplingParams, batch: int | None = None) -> list[Pixels]:
    """Shots from their prompts alone, at most `batch` to a call (None: as many as fit)."""
    encoder = Encoder(pipe)
    items = [
        Item(
            shot=shot,
            params=params,
            conditioning=Conditioning(pipe=pipe, inputs=encoder.encode(shot.prompt, shot.negative).arguments()),
        )
        for shot in shots
    ]
    size = batch or batch_that_fits(pipe, shots[0].width_px, shots[0].height_px)
    return [pixels for start in range(0, len(items), size) for pixels in sample_all(items[start : start + size])]


def sample(
    shots: Sequence[Shot],
    params: SamplingParams,
    conditionings: Sequence[Conditioning],
    canvas: Repaint | None = None,
    face_guidance: Callable[[], Lead] | None = None,
) -> list[Pixels]:
    """(height, width, 3) of each shot.

    Shots of one call have one size and one pipeline, and their inputs are tensors of equal shapes. Each shot's noise
    comes from its own seed, on the CPU in fp32, so neither the batch nor the device or precision changes which picture
    a seed means. Raises EngineError for sizes that are no multiple of 8 px.
    """
    import torch

    shot, pipe = shots[0], conditionings[0].pipe
    check_size(shot)
    seeds = [torch.Generator("cpu").manual_seed(shot.seed) for shot in shots]
    inputs = _joined([one.inputs for one in conditionings])
    if canvas is None or canvas.mask is None:  # else the pipeline noises the picture's own latents
        shape = (1, pipe.vae.config.latent_channels, shot.height_px // LATENT_PX, shot.width_px // LATENT_PX)
        noise = torch.cat([torch.randn(shape, generator=seed) for seed in seeds])
        inputs["latents"] = noise.to(pipe._execution_device, pipe.unet.dtype)
    pipe, inputs, steps = arrange(pipe, canvas, inputs, params.steps)
    before = pipe.scheduler
    try:
        if params.sampler:
            pipe.scheduler = scheduler(params.sampler, before)
        if params.face_guidance_scale and face_guidance is not None:
            pipe.scheduler = led(pipe.scheduler, pipe.vae, face_guidance(), params.face_guidance_scale)
        with torch.inference_mode(), attention(params.setup):
            result = pipe(
                generator=seeds if len(seeds) > 1 else seeds[0],
                num_inference_steps=steps,
                guidance_scale=params.guidance,
                width=shot.width_px,
                height=shot.height_px,
                output_type="np",
                **inputs,
            )
    finally:
        pipe.scheduler = before
    if any(getattr(result, "nsfw_content_detected", None) or ()):
        log.warning("The base's safety checker blacked out a picture.")
    painted = [np.round(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in np.nan_to_num(result.images)]
    return [masked(pixels, canvas, params, shot) for pixels, shot in zip(painted, shots, strict=True)]


def check_size(shot: Shot) -> None:
    """Raises EngineError for a size that cannot be painted."""
    width, height = shot.width_px, shot.height_px
    if width % LATENT_PX or height % LATENT_PX or min(width, height) < LATENT_PX:
        raise EngineError(f"{width}×{height} px cannot be painted.", f"Use multiples of {LATENT_PX}, such as 512×512.")


def batch_that_fits(pipe: Any, width: int, height: int) -> int:
    """Pictures per call: one on a CPU, as more are no faster; on a GPU by the memory left, at most 16."""
    import torch

    if pipe._execution_device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info()
    bytes_each = width * height * pipe.unet.config.block_out_channels[0] * pipe.unet.dtype.itemsize
    return int(np.clip(0.6 * free // (4 * bytes_each), 1, 16))


def _batchable(one: Item, other: Item) -> bool:
    size = (one.shot.width_px, one.shot.height_px) == (other.shot.width_px, other.shot.height_px)
    same = one.params == other.params and one.conditioning.pipe is other.conditioning.pipe
    return size and same and _shapes(one) == _shapes(other)


def _shapes(item: Item) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(getattr(value, "shape", ()))) for name, value in item.conditioning.inputs.items()]


def _joined(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tensors side by side in a batch; whatever else there is belongs to a shot alone."""
    import torch

    if len(inputs) == 1:
        return dict(inputs[0])
    return {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
