"""FaceChain-FACT on SD 1.5: patch tokens of a face-recognition transformer, through gates between the UNet's layers."""

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
from facechain.engines.identity.checkpoint import Checkpoint, open_checkpoint
from facechain.engines.identity.engine import NO_LAYERWISE_OFFLOAD, OnePhotoEngine
from facechain.engines.inpaint.repaint import Repaint
from facechain.protocols import EngineCard, Identity
from facechain.types import Shot, Style


class FactParams(SamplingParams):
    renamed: ClassVar[Mapping[str, str]] = {**SamplingParams.renamed, "scale": "identity_scale"}

    identity_scale: float = Field(
        default=0.5, ge=0, le=5, description="Weight of the face gates; 0 is the base itself."
    )
    until: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the steps with the face; early ones decide most, each costs 2/5 more.",
    )
    most_photos: int = Field(
        default=1, ge=1, le=30, description="How many of the best photos are used, 16 tokens each."
    )
    average: bool = Field(default=False, description="Average the tokens of all photos instead.")
    steps: int = Field(default=50, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=5.0, ge=0, le=30, description="Classifier-free guidance scale.")


CARD = EngineCard(
    name="fact",
    title="FaceChain-FACT",
    learns="instantly",
    bases=("sd15",),
    min_photos=1,
    packs=("fact", "transface"),
    needs_canvas=False,
    paints_canvas=True,
    recogniser="transface_s",
    params=FactParams,
    unsupported={**NO_LAYERWISE_OFFLOAD, "face_guidance_scale": "FACT reads no face vector"},
    summary="FaceChain's own adapter without training, for film-like bases; leaves prompts and styles alone.",
)
CARDS = (
    CARD,
    dataclasses.replace(
        CARD,
        name="fact-majicmix",
        title="FaceChain-FACT for majicMIX",
        packs=("fact-majicmix", "transface"),
        summary="The same, trained with the base majicMIX realistic v6.",
    ),
)


class FactEngine(OnePhotoEngine):
    kinds = ("fact",)

    def __init__(
        self, *, context: DiffusionContext, checkpoint: Path, transface: Path, card: EngineCard = CARD, **more: Any
    ) -> None:
        """`transface` is its face encoder's file."""
        super().__init__(context=context, checkpoint=checkpoint, card=card, **more)
        self._transface = transface

    @contextmanager
    def conditioned(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Condition]:
        from facechain.engines.identity.fact_net import gates_in
        from facechain.engines.identity.fact_tokens import FactTokens

        seen = open_checkpoint(self._transface, kinds=("transface",), layout=None)
        tokens = functools.cache(FactTokens(file, seen, identity.data).tokens)
        with gates_in(pipe.unet, file.tensors) as gates:

            def condition(shot: Shot, params: FactParams, canvas: Repaint | None) -> Conditioning:
                gates.give(tokens(params.most_photos, params.average))
                gates.dial.scale = params.identity_scale if params.until > 0 else 0.0
                stops = 0 < params.until < 1
                return Conditioning(
                    pipe=pipe, inputs={"callback_on_step_end": gates.off_after(params.until)} if stops else {}
                )

            yield condition
