"""Arc2Face (Papantoniou et al. 2024): a face from its identity code alone, on its own SD 1.5 UNet; no free prompt."""

from __future__ import annotations

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
from facechain.engines.inpaint.repaint import Repaint, sibling
from facechain.protocols import EngineCard, FaceReader, Identity
from facechain.types import Shot, Style


class Arc2FaceParams(SamplingParams):
    renamed: ClassVar[Mapping[str, str]] = {**SamplingParams.renamed, "scale": "identity_scale"}

    identity_scale: float = Field(
        default=1.0, ge=0, le=1, description="0: an unnamed person; 1: as published; between: a mix."
    )
    average: bool = Field(
        default=True, description="Average the face over all photos; otherwise use the best photo alone."
    )
    sampler: str = Field(default="dpmpp_2m", description="Scheduler.")
    steps: int = Field(default=25, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=3.0, ge=0, le=30, description="Classifier-free guidance scale.")


CARD = EngineCard(
    name="arc2face",
    title="Arc2Face",
    learns="instantly",
    bases=("sd15",),
    min_photos=1,
    packs=("arc2face",),
    needs_canvas=False,
    paints_canvas=True,
    recogniser="arcface",
    params=Arc2FaceParams,
    unsupported=NO_LAYERWISE_OFFLOAD,
    summary="Photographs of the person and nothing else: no prompt, varied poses.",
)


class Arc2FaceEngine(OnePhotoEngine):
    kinds = ("arc2face",)

    def __init__(
        self,
        *,
        context: DiffusionContext,
        text_encoder: Path,
        reader: FaceReader,
        unet: Path | None = None,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`text_encoder` is the weight file of Arc2Face's own.

        `unet` is the diffusers folder of its UNet; None when the base has it already.
        """
        super().__init__(context=context, checkpoint=text_encoder, reader=reader, card=card, **more)
        self._unet = unet

    @contextmanager
    def conditioned(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Condition]:
        from facechain.engines.identity.arc2face_net import face_prompt, open_unet, with_weights

        encoder = with_weights(pipe.text_encoder, file.under("text_model."))
        own = {} if self._unet is None else {"unet": open_unet(self._unet, pipe.unet)}
        own_pipe = sibling(pipe, "", text_encoder=encoder, **own)

        def condition(shot: Shot, params: Arc2FaceParams, canvas: Repaint | None) -> Conditioning:
            face = identity.data.fused if params.average else identity.data.vectors[0]
            prompt = face_prompt(own_pipe.tokenizer, encoder, face.vector, params.identity_scale)
            return Conditioning(pipe=own_pipe, inputs={"prompt_embeds": prompt})

        yield condition
