"""What the engine needs, costs and can be told; readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from facechain.engines.diffusion.painter import Settings
from facechain.engines.diffusion.setup import Setup
from facechain.engines.lora.settings import Count, TrainSettings
from facechain.options import Field, File, Scale, options_of
from facechain.protocols import EngineCard


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What goes into the base before a portrait is painted."""

    identity_scale: Scale = 1.0  # of the person's weights; 0 is the base alone
    lora: Annotated[str, Field(file=True, several=True)] = ""  # weights of the user's own: FILE, or FILE:0.8
    fast: str = ""  # a fast mode; see configs/fast
    vae: File = ""
    controlnet_openpose: str = ""  # a folder, a file, or a pack
    controlnet_depth: str = ""
    controlnet_canny: str = ""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a training is run, beside what it learns."""

    effort: Annotated[float, Field(least=0.01, most=100)] = 1.0  # multiplies the usual number of steps
    vae: File = ""
    processes: Count = 1  # that share the training
    prepare: bool = False  # only write the captions, to be edited


CARD = EngineCard(
    name="lora",
    title="Learned portrait (LoRA)",
    learns="by training",
    bases=("sd15", "sdxl"),
    min_photos=3,
    packs=(),
    needs_canvas=False,
    paints_canvas=False,
    summary="Learns the person from 3 to 30 photos in minutes to an hour on a GPU; paints them in any style.",
    options=(*options_of(Weights), *options_of(Settings), *options_of(Setup)),
    training=(*options_of(TrainSettings), *options_of(Running)),
)
