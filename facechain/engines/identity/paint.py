"""One shot through a diffusers pipeline: seed on the CPU, whole pixels out."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np

from facechain.config import build
from facechain.errors import EngineError
from facechain.types import Pixels, Shot, Style

T = TypeVar("T")


def settings(cls: type[T], style: Style, shot: Shot) -> T:
    """The engine's own settings: its defaults, then the style's, then the shot's. Unknown keys in the shot are refused.

    A style's options may also speak to other engines, so only those this engine knows are taken from it.
    """
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    given = {key: value for key, value in style.options.items() if key in known}
    asked = {key: value for key, value in shot.options.items() if key in known or key not in style.options}
    return build(cls, {**given, **asked}, "shot")


def paint(pipe: Any, shot: Shot, *, steps: int, guidance: float, **inputs: Any) -> Pixels:
    """(height, width, 3). `inputs` go to the pipeline; prompts come from the shot unless given as embeddings."""
    import torch

    if shot.width_px % 8 or shot.height_px % 8:
        raise EngineError(
            f"Diffusion paints sides in multiples of 8 px, not {shot.width_px}×{shot.height_px}.",
            "Choose a size such as 512×512 or 832×1216.",
        )
    if "prompt_embeds" not in inputs:
        inputs = {"prompt": shot.prompt, "negative_prompt": shot.negative, **inputs}
    made = pipe(
        width=shot.width_px,
        height=shot.height_px,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(shot.seed),
        output_type="np",
        **inputs,
    )
    return np.asarray((made.images[0] * 255).round().clip(0, 255), np.uint8)


def sibling(pipe: Any, cls: type, **parts: Any) -> Any:
    """A pipeline of another class over the same loaded parts, some replaced; `pipe` itself is not touched."""
    import inspect

    wanted = inspect.signature(cls.__init__).parameters
    shared = {name: part for name, part in {**pipe.components, **parts}.items() if name in wanted}
    made = cls(**shared)
    made.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {"disable": True}))
    return made
