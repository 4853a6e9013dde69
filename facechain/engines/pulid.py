"""PuLID v1 and v1.1 (Guo et al. 2024) on SDXL: identity that disturbs the rest of the picture little."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from facechain.engines.diffusion.samplers import Sampler
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import OnePhotoEngine
from facechain.engines.identity.paint import Brush, paint, settings, worded
from facechain.errors import EngineError
from facechain.options import Field, Guidance, Photos, Scale, Steps, options_of
from facechain.protocols import EngineCard, FaceReader, Identity, Paint, Parser
from facechain.types import Canvas, Pixels, Shot, Style

# preset -> how the face joins the text attention, and how many empty tokens dilute it
PRESETS = {"fidelity": ("orthogonal_v2", 8), "style": ("orthogonal", 16), "plain": ("add", 0)}


@dataclass(frozen=True, kw_only=True)
class PulidSettings(Brush):
    scale: Scale = 0.8
    preset: Annotated[str, Field(choices=tuple(PRESETS))] = "fidelity"  # or "style", "plain"; see PRESETS
    mix: bool = False  # v1: take every token of the further photos, not only their face-vector tokens
    most_photos: Photos = 4
    average: bool = False  # one averaged face instead of one beside the other
    sampler: Sampler = "dpmpp_2m_karras"
    steps: Steps = 25
    guidance: Guidance = 7.0


@dataclass(frozen=True, kw_only=True)
class PulidV1Settings(PulidSettings):
    sampler: Sampler = "dpmpp_2m_trailing"
    steps: Steps = 4
    guidance: Guidance = 1.2


CARD = EngineCard(
    name="pulid",
    title="PuLID v1.1",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("pulid", "eva02-clip", "antelopev2", "parser"),
    needs_canvas=False,
    paints_canvas=False,
    recogniser="glintr100",
    summary="Keeps style and background as the words say, with any SDXL base.",
    options=options_of(PulidSettings),
)
CARD_V1 = dataclasses.replace(
    CARD,
    name="pulid-v1",
    title="PuLID v1",
    packs=("pulid-v1", "eva02-clip", "antelopev2", "parser"),
    summary="The first PuLID, made for fast bases such as SDXL-Lightning; blends up to four photos.",
)


class PulidEngine(OnePhotoEngine):
    kinds = ("pulid-v1", "pulid-v1.1")

    def __init__(
        self,
        *,
        base: Callable[[], Any],
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
        super().__init__(base=base, checkpoint=checkpoint, reader=reader, card=card, **more)
        self._tower, self._parser = tower, parser

    @contextmanager
    def _paints(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.attention import face_in
        from facechain.engines.identity.pulid_tokens import PulidTokens
        from facechain.engines.identity.pulid_tower import FaceTower

        kind = PulidV1Settings if file.kind == "pulid-v1" else PulidSettings
        tower = FaceTower(self._tower, self._parser)
        tokens = functools.cache(PulidTokens(file, identity.data, tower).tokens)
        with face_in(pipe.unet, file.under("id_adapter_attn_layers."), ("id_to_k", "id_to_v")) as face:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(kind, style, shot)
                if chosen.preset not in PRESETS:
                    raise EngineError(f"There is no preset {chosen.preset!r}.", f"Known: {', '.join(PRESETS)}.")
                mode, empty = PRESETS[chosen.preset]
                face.give(tokens(chosen.most_photos, chosen.mix, empty, chosen.average))
                face.dial.scale, face.dial.mode = chosen.scale, mode
                words = worded(shot, style, identity.data)
                return paint(pipe, words, chosen, onto, self._controlnets, self._lead(identity))

            yield one
