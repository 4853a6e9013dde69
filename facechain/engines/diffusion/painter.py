"""A shot becomes pixels. The shot's seed is its own source of noise, so what is painted beside it does not matter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from facechain.engines.diffusion.controls import KINDS, Control, arguments, open_net
from facechain.engines.diffusion.lead import Lead, led
from facechain.engines.diffusion.samplers import Sampler, scheduler
from facechain.engines.diffusion.setup import Setup, attention
from facechain.engines.diffusion.words import Encoder
from facechain.engines.inpaint.repaint import arrange
from facechain.errors import EngineError
from facechain.options import Field, Guidance, Share, Steps, options_of
from facechain.types import Canvas, Pixels, Shot

log = logging.getLogger(__name__)

SIZE_STEP = 8  # pixels of a picture for one of its latents


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a shot is painted; a style gives them, a shot's options may replace them."""

    sampler: Sampler = "dpmpp_2m_karras"
    steps: Steps = 30
    guidance: Guidance = 7.0
    likeness: Share = 0.0  # face-recognition guidance: shift per step as a share of the noise left; 0.1 is much
    controls: Annotated[tuple[Control, ...], Field(picture=True)] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 200:
            raise EngineError(f"steps is {self.steps}.", "Give a number from 1 to 200.")
        if not 0 <= self.guidance <= 30:
            raise EngineError(f"guidance is {self.guidance:g}.", "Give a number from 0 to 30.")


def settings(base: Settings, options: Mapping[str, Any], also: Sequence[str] = ()) -> Settings:
    """`base` with a shot's options over it; options in `also` are somebody else's. Unknown ones are refused by name."""
    known = [option.name for option in options_of(Settings)]
    for name in options:
        if name not in known and name not in also:
            raise EngineError(f"There is no setting {name!r} here.", f"Known: {', '.join([*known, *also])}.")
    chosen = {name: options[name] for name in known if name in options}
    kinds = {"steps": int, "guidance": float, "likeness": float, "sampler": str, "controls": _controls}
    try:
        return replace(base, **{name: kinds[name](value) for name, value in chosen.items()})
    except (TypeError, ValueError) as error:
        raise EngineError(f"A setting is of the wrong kind: {error}.", "Check the style and the options.") from None


def _controls(given: Mapping[str, Any] | Sequence[Control]) -> tuple[Control, ...]:
    """Controls themselves, or kind → picture."""
    if isinstance(given, Mapping):
        return tuple(Control(kind=kind, picture=picture) for kind, picture in given.items())
    return tuple(given)


@dataclass
class Painter:
    """One pipeline for one sitting; make it after the sitting's weights are in."""

    pipe: Any
    setup: Setup = field(default_factory=Setup)
    nets: Mapping[str, Path] = field(default_factory=dict)  # ControlNets by kind
    lead: Callable[[], Lead] | None = None  # whom a wished likeness leads to

    def __post_init__(self) -> None:
        self._encoder = Encoder(self.pipe)
        self._schedule = self.pipe.scheduler
        self._opened: dict[str, Any] = {}

    def paint(self, shot: Shot, how: Settings, onto: Canvas | None = None) -> Pixels:
        return self.paint_many([(shot, how)], onto=onto)[0]

    def paint_many(
        self, shots: Sequence[tuple[Shot, Settings]], batch: int | None = None, onto: Canvas | None = None
    ) -> list[Pixels]:
        """In order, at most `batch` at a time (None: as many as fit); equal settings are painted together.

        Into a prepared canvas (`Repaint`) they are painted one by one.
        """
        batch = batch if onto is None else 1
        made: dict[int, Pixels] = {}
        for group in _alike(shots, self._length):
            size = batch or self.batch_that_fits(group[0][1].width_px, group[0][1].height_px)
            for start in range(0, len(group), size):
                part = group[start : start + size]
                painted = self._paint([shot for _, shot, _ in part], part[0][2], onto)
                made.update(zip((index for index, _, _ in part), painted, strict=True))
        return [made[index] for index in range(len(shots))]

    def batch_that_fits(self, width: int, height: int) -> int:
        """On a CPU one, as more are no faster; on a GPU by the memory left, guided pictures counting double."""
        import torch

        if self.pipe._execution_device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info()
        bytes_each = width * height * self.pipe.unet.config.block_out_channels[0] * self.pipe.unet.dtype.itemsize
        return int(np.clip(0.6 * free // (4 * bytes_each), 1, 16))

    def _length(self, shot: Shot) -> int:
        return self._encoder.encode(shot.prompt, shot.negative).positive.shape[1]

    def _paint(self, shots: Sequence[Shot], how: Settings, onto: Canvas | None) -> list[Pixels]:
        import torch

        width, height = shots[0].width_px, shots[0].height_px
        if width % SIZE_STEP or height % SIZE_STEP or min(width, height) < SIZE_STEP:
            raise EngineError(f"{width} × {height} px cannot be painted.", f"Use multiples of {SIZE_STEP}.")
        words = [self._encoder.encode(shot.prompt, shot.negative).arguments() for shot in shots]
        seeds = [torch.Generator("cpu").manual_seed(shot.seed) for shot in shots]
        pipe, controlled = self._pipe_for(how.controls)
        pipe.scheduler = scheduler(how.sampler, self._schedule)
        if how.likeness and self.lead is not None:
            pipe.scheduler = led(pipe.scheduler, pipe.vae, self.lead(), how.likeness)
        shape = (1, pipe.vae.config.latent_channels, height // SIZE_STEP, width // SIZE_STEP)
        noise = torch.cat([torch.randn(shape, generator=seed) for seed in seeds])
        more = arguments(how.controls, width, height, len(shots)) if controlled else {}
        inputs = {name: torch.cat([one[name] for one in words]) for name in words[0]}
        inputs |= {"latents": noise.to(pipe._execution_device, pipe.unet.dtype), **more}
        pipe, inputs, steps = arrange(pipe, onto, inputs, how.steps)
        with torch.inference_mode(), attention(self.setup):
            result = pipe(
                generator=seeds,
                num_inference_steps=steps,
                guidance_scale=how.guidance,
                width=width,
                height=height,
                output_type="np",
                **inputs,
            )
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            log.warning("The base's safety checker blacked out a picture.")
        return [np.round(image * 255).astype(np.uint8) for image in np.nan_to_num(result.images)]

    def _pipe_for(self, controls: Sequence[Control]) -> tuple[Any, bool]:
        if not controls:
            return self.pipe, False
        import diffusers
        from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

        nets = []
        for control in controls:
            if control.kind not in self.nets:
                known = ", ".join(self.nets) or f"none (kinds: {', '.join(KINDS)})"
                raise EngineError(f"There is no ControlNet for {control.kind!r}.", f"Known: {known}.")
            if control.kind not in self._opened:
                net = open_net(self.nets[control.kind], self.pipe.unet).to(self.pipe._execution_device)
                self._opened[control.kind] = net
            nets.append(self._opened[control.kind])
        name = type(self.pipe).__name__.replace("Pipeline", "ControlNetPipeline")
        given = {**self.pipe.components, "controlnet": MultiControlNetModel(nets)}
        checked = {"requires_safety_checker": False} if given.get("safety_checker", 0) is None else {}
        controlled = getattr(diffusers, name)(**given, **checked)
        controlled.set_progress_bar_config(disable=True)
        return controlled, True


def _alike(shots: Sequence[tuple[Shot, Settings]], length: Any) -> Iterator[list[tuple[int, Shot, Settings]]]:
    """Shots of equal size, settings and prompt length, with their places."""

    def key(item: tuple[int, Shot, Settings]) -> tuple[Any, ...]:
        _, shot, how = item
        controls = tuple(id(control) for control in how.controls)
        size = (shot.width_px, shot.height_px)
        return (*size, length(shot), how.sampler, how.steps, how.guidance, how.likeness, controls)

    listed = [(index, shot, how) for index, (shot, how) in enumerate(shots)]
    for _, group in groupby(sorted(listed, key=key), key=key):
        yield list(group)
