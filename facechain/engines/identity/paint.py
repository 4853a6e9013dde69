"""One shot through a diffusers pipeline: seed on the CPU, whole pixels out."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np

from facechain.config import build
from facechain.engines.diffusion.base import no_vae
from facechain.engines.diffusion.lead import Lead, led
from facechain.engines.diffusion.parts import open_vae, published_vae
from facechain.engines.diffusion.prompts import fill, noun
from facechain.engines.diffusion.samplers import Sampler, scheduler
from facechain.engines.diffusion.words import Encoder
from facechain.engines.identity.begin import Nets, begin, finished
from facechain.engines.identity.evidence import Evidence
from facechain.engines.inpaint.repaint import arrange
from facechain.errors import EngineError
from facechain.options import Field, Guidance, Picture, Share, Steps
from facechain.types import Canvas, Pixels, Shot, Style

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brush:
    """What a shot may say to any one-photo engine; each has its own defaults."""

    start: Picture = None  # a Photo to begin from instead of noise
    mask: Picture = None  # a Photo, white where the start picture may change
    strength: Share = 0.7  # with a start picture: 0 leaves it, 1 paints anew
    controls: Annotated[Mapping[str, Any], Field(picture=True)] = dataclasses.field(default_factory=dict)  # by kind
    control_scales: Annotated[Mapping[str, float], Field(internal=True)] = dataclasses.field(default_factory=dict)
    controlnet_openpose: str = ""  # a ControlNet of one's own: folder or file
    controlnet_depth: str = ""
    controlnet_canny: str = ""
    vae: str = ""  # another one than the base's: folder or file
    sampler: Sampler = ""  # empty: the base's own
    steps: Steps = 30
    guidance: Guidance = 7.0
    likeness: Share = 0.0  # face-recognition guidance: shift per step as a share of the noise left; 0.1 is much


def settings(cls: type[T], style: Style, shot: Shot) -> T:
    """The engine's own settings: its defaults, then the style's, then the shot's. Unknown keys in the shot are refused.

    A style's options may also speak to other engines, so only those this engine knows are taken from it.
    """
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    given = {name: getattr(style, name) for name in ("sampler", "steps", "guidance") if getattr(style, name)}
    given |= {key: value for key, value in style.options.items() if key in known}
    asked = {key: value for key, value in shot.options.items() if key in known or key not in style.options}
    wanted = {**given, **asked}
    switches = {field.name for field in dataclasses.fields(cls) if field.type == "bool"}  # type: ignore[arg-type]
    wanted |= {name: bool(wanted[name]) for name in switches & wanted.keys() if wanted[name] in (0, 1)}
    return build(cls, wanted, "shot")


def worded(shot: Shot, style: Style, evidence: Evidence, trigger: str = "") -> Shot:
    """The shot with {person} and {age} in its prompt filled in; `trigger` follows the word for the person."""
    if "{" not in shot.prompt:
        return shot
    said = Counter(tag.value for crop in evidence.crops for tag in crop.tags if tag.name == "age")
    age = next((value for value, _ in said.most_common() if value != "unknown"), "")
    return dataclasses.replace(shot, prompt=fill(shot.prompt, f"{noun(age)} {trigger}".strip(), age, style.ages))


def paint(
    pipe: Any,
    shot: Shot,
    chosen: Brush,
    onto: Canvas | None = None,
    controlnets: Nets | None = None,
    lead: Callable[[], Lead] | None = None,
    **inputs: Any,
) -> Pixels:
    """(height, width, 3).

    `inputs` go to the pipeline; prompts of any length and weight come from the shot unless given as embeddings.
    `onto` is a prepared canvas (`Repaint`) to paint into. `lead` says whom a wished `likeness` leads to; the less the
    face's `scale`, the less it leads.
    """
    import torch

    if shot.width_px % 8 or shot.height_px % 8:
        raise EngineError(
            f"Diffusion paints sides in multiples of 8 px, not {shot.width_px}×{shot.height_px}.",
            "Choose a size such as 512×512 or 832×1216.",
        )
    if "prompt_embeds" not in inputs:
        inputs = {**Encoder(pipe).encode(shot.prompt, shot.negative).arguments(), **inputs}
    pipe = _with_vae(pipe, chosen.vae)
    below = begin(chosen, shot, onto, controlnets)
    pipe, inputs, steps = arrange(pipe, below, inputs, chosen.steps)
    own = pipe.scheduler
    try:
        if chosen.sampler:
            pipe.scheduler = scheduler(chosen.sampler, own)
        if lead is not None and (likeness := chosen.likeness * getattr(chosen, "scale", 1.0)):
            pipe.scheduler = led(pipe.scheduler, pipe.vae, lead(), likeness)
        made = pipe(
            width=shot.width_px,
            height=shot.height_px,
            num_inference_steps=steps,
            guidance_scale=chosen.guidance,
            generator=torch.Generator("cpu").manual_seed(shot.seed),
            output_type="np",
            **inputs,
        )
    finally:
        pipe.scheduler = own
    painted = np.asarray((np.nan_to_num(made.images[0]) * 255).round().clip(0, 255), np.uint8)
    return finished(painted, below, chosen, shot)


def _with_vae(pipe: Any, named: str) -> Any:
    """The pipeline with the VAE of this folder or file; raises EngineError when there is none at all."""
    if not named:
        if pipe.vae is None:
            raise no_vae()
        return pipe
    path = Path(named)
    changed_ns = path.stat().st_mtime_ns if path.exists() else 0
    family = "sdxl" if getattr(pipe, "text_encoder_2", None) is not None else "sd15"
    vae = _opened_vae(path, changed_ns, family).to(pipe.unet.device, pipe.unet.dtype)
    return sibling(pipe, type(pipe), vae=vae)


@functools.lru_cache(maxsize=1)
def _opened_vae(path: Path, changed_ns: int, family: str) -> Any:
    """Kept from shot to shot."""
    return open_vae(path, published_vae(family))


def sibling(pipe: Any, cls: type, **parts: Any) -> Any:
    """A pipeline of another class over the same loaded parts, some replaced; `pipe` itself is not touched."""
    import inspect

    wanted = inspect.signature(cls.__init__).parameters
    shared = {name: part for name, part in {**pipe.components, **parts}.items() if name in wanted}
    made = cls(**shared)
    made.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {"disable": True}))
    return made
