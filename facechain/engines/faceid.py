"""FaceID: IP-Adapter's face family (Ye et al. 2023) on SD 1.5 and SDXL, from one to five photos, in seconds."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.sampling import Conditioning
from facechain.engines.diffusion.session import Condition, DiffusionContext
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import NO_LAYERWISE_OFFLOAD, OnePhotoEngine
from facechain.engines.inpaint.repaint import Repaint
from facechain.protocols import EngineCard, FaceReader, Identity
from facechain.types import Shot, Style

KINDS = ("faceid", "faceid-plus", "faceid-plusv2", "portrait", "portrait-unnorm")


class FaceIdParams(SamplingParams):
    renamed: ClassVar[Mapping[str, str]] = {**SamplingParams.renamed, "scale": "identity_scale"}

    identity_scale: float = Field(
        default=1.0, ge=0, le=5, description="Weight of the face tokens; 0 is the base itself."
    )
    lora_scale: float = Field(default=1.0, ge=0, le=5, description="Weight of the LoRA inside the checkpoint.")
    structure_scale: float = Field(default=1.0, ge=0, le=5, description="PlusV2: weight of the CLIP image embedding.")
    average: bool = Field(
        default=True, description="Average the face over all photos; otherwise use the best photo alone."
    )
    sampler: str = Field(default="ddim", description="Scheduler.")
    steps: int = Field(default=30, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=7.5, ge=0, le=30, description="Classifier-free guidance scale.")


class PortraitParams(FaceIdParams):
    average: bool = Field(default=False, description="Average the photos instead of using up to five side by side.")


def _card(
    name: str, title: str, base: str, summary: str, clip: bool = False, params: type[FaceIdParams] = FaceIdParams
) -> EngineCard:
    return EngineCard(
        name=name,
        title=title,
        learns="instantly",
        bases=(base,),
        min_photos=1,
        packs=(name, "clip-vit-h", "buffalo_l") if clip else (name, "buffalo_l"),
        needs_canvas=False,
        paints_canvas=True,
        recogniser="w600k_r50",
        summary=summary,
        params=params,
        unsupported=NO_LAYERWISE_OFFLOAD,
    )


QUICK, SHAPE = "Light and quick; follows prompts well.", "FaceID that also looks at the shape of the face."
FIVE = "FaceID for up to five photos; leaves style weights alone."
CARDS = (
    _card("faceid", "FaceID", "sd15", QUICK),
    _card("faceid-plus", "FaceID Plus", "sd15", SHAPE, clip=True),
    _card("faceid-plusv2", "FaceID PlusV2", "sd15", f"{SHAPE} How much is yours to say.", clip=True),
    _card("faceid-portrait", "FaceID Portrait", "sd15", FIVE, params=PortraitParams),
    _card("faceid-xl", "FaceID XL", "sdxl", QUICK),
    _card("faceid-plusv2-xl", "FaceID PlusV2 XL", "sdxl", f"{SHAPE} How much is yours to say.", clip=True),
    _card("faceid-portrait-xl", "FaceID Portrait XL", "sdxl", FIVE, params=PortraitParams),
    _card("faceid-portrait-unnorm", "FaceID Portrait XL, raw", "sdxl", "As InstantID, without its ControlNet."),
)
CARD = CARDS[0]


class FaceIdEngine(OnePhotoEngine):
    kinds = KINDS

    def __init__(
        self,
        *,
        context: DiffusionContext,
        checkpoint: Path,
        reader: FaceReader,
        clip: Path | None = None,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`clip` is the folder of the ViT-H/14 image encoder that Plus looks through."""
        if more.get("kind") == "portrait":
            more.setdefault("params", PortraitParams)
        super().__init__(context=context, checkpoint=checkpoint, reader=reader, card=card, **more)
        self._clip = clip

    @contextmanager
    def conditioned(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Condition]:
        from facechain.engines.identity.attention import face_in
        from facechain.engines.identity.lora import merged, numbered_pairs
        from facechain.engines.identity.project import Projector

        weights = file.under("ip_adapter.")
        tokens = functools.cache(Projector(file, identity.data, self._clip).tokens)
        pairs = {} if file.kind.startswith("portrait") else numbered_pairs(pipe.unet, weights)
        with face_in(pipe.unet, weights, ("to_k_ip", "to_v_ip")) as face, merged(pipe.unet, pairs) as lora:

            def condition(shot: Shot, params: FaceIdParams, canvas: Repaint | None) -> Conditioning:
                face.give(tokens(params.structure_scale, params.average))
                face.dial.scale = params.identity_scale
                lora.set(params.lora_scale if params.identity_scale else 0.0)
                return Conditioning(pipe=pipe)

            yield condition
