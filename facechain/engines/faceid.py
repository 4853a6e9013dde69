"""FaceID: IP-Adapter's face family (Ye et al. 2023) on SD 1.5 and SDXL, from one to five photos, in seconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.samplers import Sampler
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import OnePhotoEngine
from facechain.engines.identity.paint import Brush, paint, settings, worded
from facechain.options import Guidance, Scale, Steps, options_of
from facechain.protocols import EngineCard, FaceReader, Identity, Paint
from facechain.types import Canvas, Pixels, Shot, Style

KINDS = ("faceid", "faceid-plus", "faceid-plusv2", "portrait", "portrait-unnorm")


@dataclass(frozen=True, kw_only=True)
class FaceIdSettings(Brush):
    scale: Scale = 1.0  # of the face, 0…1
    lora_scale: Scale = 1.0  # of the low-rank weights inside the file; none at scale 0
    structure_scale: Scale = 1.0  # PlusV2: of what CLIP saw, beside the face vector
    average: bool = True  # one face averaged over all photos; False: the best photo alone
    sampler: Sampler = "ddim"
    steps: Steps = 30
    guidance: Guidance = 7.5


@dataclass(frozen=True, kw_only=True)
class PortraitSettings(FaceIdSettings):
    average: bool = False  # up to five photos beside each other


def _card(name: str, title: str, base: str, summary: str, clip: bool = False) -> EngineCard:
    return EngineCard(
        name=name,
        title=title,
        learns="instantly",
        bases=(base,),
        min_photos=1,
        packs=(name, "clip-vit-h", "buffalo_l") if clip else (name, "buffalo_l"),
        needs_canvas=False,
        paints_canvas=False,
        recogniser="w600k_r50",
        summary=summary,
        options=options_of(FaceIdSettings),
    )


QUICK, SHAPE = "Light and quick; follows prompts well.", "FaceID that also looks at the shape of the face."
FIVE = "FaceID for up to five photos; leaves style weights alone."
CARDS = (
    _card("faceid", "FaceID", "sd15", QUICK),
    _card("faceid-plus", "FaceID Plus", "sd15", SHAPE, clip=True),
    _card("faceid-plusv2", "FaceID PlusV2", "sd15", f"{SHAPE} How much is yours to say.", clip=True),
    _card("faceid-portrait", "FaceID Portrait", "sd15", FIVE),
    _card("faceid-xl", "FaceID XL", "sdxl", QUICK),
    _card("faceid-plusv2-xl", "FaceID PlusV2 XL", "sdxl", f"{SHAPE} How much is yours to say.", clip=True),
    _card("faceid-portrait-xl", "FaceID Portrait XL", "sdxl", FIVE),
    _card("faceid-portrait-unnorm", "FaceID Portrait XL, raw", "sdxl", "As InstantID, without its ControlNet."),
)
CARD = CARDS[0]


class FaceIdEngine(OnePhotoEngine):
    kinds = KINDS

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        reader: FaceReader,
        clip: Path | None = None,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`clip` is the folder of the ViT-H/14 image encoder that Plus looks through."""
        super().__init__(base=base, checkpoint=checkpoint, reader=reader, card=card, **more)
        self._clip = clip

    @contextmanager
    def _paints(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.attention import face_in
        from facechain.engines.identity.lora import merged, numbered_pairs
        from facechain.engines.identity.project import Projector

        kind = PortraitSettings if file.kind == "portrait" else FaceIdSettings
        weights = file.under("ip_adapter.")
        tokens = functools.cache(Projector(file, identity.data, self._clip).tokens)
        pairs = {} if file.kind.startswith("portrait") else numbered_pairs(pipe.unet, weights)
        with face_in(pipe.unet, weights, ("to_k_ip", "to_v_ip")) as face, merged(pipe.unet, pairs) as lora:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(kind, style, shot)
                face.give(tokens(chosen.structure_scale, chosen.average))
                face.dial.scale = chosen.scale
                lora.set(chosen.lora_scale if chosen.scale else 0.0)
                words = worded(shot, style, identity.data)
                return paint(pipe, words, chosen, onto, self._controlnets, self._lead(identity))

            yield one
