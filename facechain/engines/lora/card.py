"""What the engine needs and costs; readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.lora.settings import TrainingRequest
from facechain.protocols import EngineCard


class LoraParams(SamplingParams):
    renamed: ClassVar[Mapping[str, str]] = {**SamplingParams.renamed, "scale": "identity_scale"}

    identity_scale: float = Field(
        default=1.0, ge=0, le=5, description="Weight of the person's LoRA; 0 is the base itself."
    )
    sampler: str = Field(default="dpmpp_2m_karras", description="Scheduler.")


CARD = EngineCard(
    name="lora",
    title="Learned portrait (LoRA)",
    learns="by training",
    bases=("sd15", "sdxl"),
    min_photos=3,
    packs=(),
    needs_canvas=False,
    paints_canvas=True,
    params=LoraParams,
    training=TrainingRequest,
    filtered_by=("sface_2021dec",),  # chooses among checkpoints, unless another reader is configured
    summary="Learns the person from 3 to 30 photos in minutes to an hour on a GPU; paints them in any style.",
)
