"""PhotoMaker v1 and v2 (Li et al. 2024) on SDXL: photos stacked into the prompt's class word."""

from __future__ import annotations

import dataclasses
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
from facechain.engines.inpaint.repaint import Repaint, skipped
from facechain.protocols import EngineCard, FaceReader, Identity
from facechain.types import Shot, Style


class PhotoMakerParams(SamplingParams):
    renamed: ClassVar[Mapping[str, str]] = {**SamplingParams.renamed, "scale": "identity_scale"}

    identity_scale: float = Field(
        default=1.0, ge=0, le=5, description="Weight of the LoRA; at 0 the photos are left out too."
    )
    trigger: str = Field(
        default="img", min_length=1, description="Follows the class word, as in 'a man img in the rain'."
    )
    merge_after: int = Field(
        default=10, ge=-1, le=200, description="Steps from text alone; fewer: more likeness, less style."
    )
    most_photos: int = Field(default=4, ge=1, le=30, description="How many of the best photos are used.")
    average: bool = Field(default=False, description="Average the tokens of all photos instead of stacking them.")
    sampler: str = Field(default="euler", description="Scheduler.")
    steps: int = Field(default=50, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=5.0, ge=0, le=30, description="Classifier-free guidance scale.")


CARD = EngineCard(
    name="photomaker",
    title="PhotoMaker",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("photomaker",),
    needs_canvas=False,
    paints_canvas=True,
    params=PhotoMakerParams,
    unsupported={**NO_LAYERWISE_OFFLOAD, "face_guidance_scale": "PhotoMaker v1 reads no face vector"},
    summary="Blends several photos; strong in styles and ages. Looks at the photos only, without a face recogniser.",
)
CARD_V2 = dataclasses.replace(
    CARD,
    name="photomaker-v2",
    title="PhotoMaker v2",
    packs=("photomaker-v2", "buffalo_l"),
    recogniser="w600k_r50",
    unsupported=NO_LAYERWISE_OFFLOAD,
    summary="As PhotoMaker, with more likeness.",
)


class PhotoMakerEngine(OnePhotoEngine):
    kinds = ("photomaker-v1", "photomaker-v2")

    def __init__(
        self,
        *,
        context: DiffusionContext,
        checkpoint: Path,
        reader: FaceReader | None = None,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`reader` is needed for v2."""
        super().__init__(context=context, checkpoint=checkpoint, reader=reader, card=card, **more)

    @contextmanager
    def conditioned(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Condition]:
        from facechain.engines.diffusion.words import Encoder
        from facechain.engines.identity.lora import merged, named_pairs
        from facechain.engines.identity.photomaker_net import PhotoEncoder
        from facechain.engines.identity.photomaker_prompt import Stacked, photo_tokens, without_trigger

        encoder = PhotoEncoder(file.under("id_encoder."))
        tokens = functools.cache(functools.partial(photo_tokens, encoder, identity.data))
        with merged(pipe.unet, named_pairs(file.under("lora_weights."))) as lora:

            def condition(shot: Shot, params: PhotoMakerParams, canvas: Repaint | None) -> Conditioning:
                lora.set(params.identity_scale)
                if not params.identity_scale:
                    text = without_trigger(shot.prompt, params.trigger)
                    return Conditioning(pipe=pipe, inputs=Encoder(pipe).encode(text, shot.negative).arguments())
                photos = tokens(params.most_photos, params.average)
                prompt = Stacked(pipe, shot, params.trigger, photos, encoder.fusion)
                start = params.merge_after - skipped(canvas, params.steps)
                return Conditioning(pipe=pipe, inputs=prompt.inputs(start, params.guidance > 1))

            yield condition
