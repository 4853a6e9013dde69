"""PuLID v1 and v1.1 (Guo et al. 2024) on SDXL: identity that disturbs the rest of the picture little."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.sampling import Conditioning
from facechain.engines.diffusion.session import Condition, DiffusionContext
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import NO_LAYERWISE_OFFLOAD, OnePhotoEngine
from facechain.engines.inpaint.repaint import Repaint
from facechain.protocols import EngineCard, FaceReader, Identity, Parser
from facechain.types import Shot, Style


class PulidParams(SamplingParams):
    renamed: ClassVar[Mapping[str, str]] = {**SamplingParams.renamed, "scale": "identity_scale"}

    identity_scale: float = Field(
        default=0.8, ge=0, le=5, description="Weight of the face tokens; 0 is the base itself."
    )
    preset: Literal["fidelity", "style", "plain"] = Field(
        default="fidelity",
        description="How the face joins the text attention: more likeness, more style, or a plain sum.",
    )
    mix: bool = Field(
        default=False, description="v1: take every token of further photos, not only their face-vector tokens."
    )
    most_photos: int = Field(default=4, ge=1, le=30, description="How many of the best photos are used.")
    average: bool = Field(
        default=False, description="Average the face over the photos instead of using them side by side."
    )
    sampler: str = Field(default="dpmpp_2m_karras", description="Scheduler.")
    steps: int = Field(default=25, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=7.0, ge=0, le=30, description="Classifier-free guidance scale.")


class PulidV1Params(PulidParams):
    sampler: str = Field(default="dpmpp_2m_trailing", description="Scheduler.")
    steps: int = Field(default=4, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=1.2, ge=0, le=30, description="Classifier-free guidance scale.")


CARD = EngineCard(
    name="pulid",
    title="PuLID v1.1",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("pulid", "eva02-clip", "antelopev2", "parser"),
    needs_canvas=False,
    paints_canvas=True,
    recogniser="glintr100",
    params=PulidParams,
    unsupported=NO_LAYERWISE_OFFLOAD,
    summary="Keeps style and background as the words say, with any SDXL base.",
)
CARD_V1 = dataclasses.replace(
    CARD,
    name="pulid-v1",
    params=PulidV1Params,
    title="PuLID v1",
    packs=("pulid-v1", "eva02-clip", "antelopev2", "parser"),
    summary="The first PuLID, made for fast bases such as SDXL-Lightning; blends up to four photos.",
)

# preset -> how the face joins the text attention, and how many empty tokens dilute it
PRESETS = {"fidelity": ("orthogonal_v2", 8), "style": ("orthogonal", 16), "plain": ("add", 0)}


class PulidEngine(OnePhotoEngine):
    kinds = ("pulid-v1", "pulid-v1.1")

    def __init__(
        self,
        *,
        context: DiffusionContext,
        checkpoint: Path,
        reader: FaceReader,
        tower: Path,
        parser: Parser | None = None,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`tower` is the published file of EVA02-CLIP-L-14-336, through which PuLID looks at the photos.

        `parser` finds hats and jewellery in them, which PuLID is not to see.
        """
        if more.get("kind") == "pulid-v1":
            more.setdefault("params", PulidV1Params)
        super().__init__(context=context, checkpoint=checkpoint, reader=reader, card=card, **more)
        self._tower, self._parser = tower, parser

    @contextmanager
    def conditioned(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Condition]:
        from facechain.engines.identity.attention import face_in
        from facechain.engines.identity.pulid_tokens import PulidTokens
        from facechain.engines.identity.pulid_tower import FaceTower

        tower = FaceTower(self._tower, self._parser)
        tokens = functools.cache(PulidTokens(file, identity.data, tower).tokens)
        with face_in(pipe.unet, file.under("id_adapter_attn_layers."), ("id_to_k", "id_to_v")) as face:

            def condition(shot: Shot, params: PulidParams, canvas: Repaint | None) -> Conditioning:
                mode, empty = PRESETS[params.preset]
                face.give(tokens(params.most_photos, params.mix, empty, params.average))
                face.dial.scale, face.dial.mode = params.identity_scale, mode
                return Conditioning(pipe=pipe)

            yield condition
