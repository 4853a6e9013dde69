"""FaceID: IP-Adapter's face family (Ye et al. 2023) on SD 1.5 and SDXL, from one to five photos, in seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.engines.identity.paint import paint, settings, worded
from facechain.protocols import EngineCard, FaceReader, Identity, Paint, Tick, silent
from facechain.types import Canvas, Person, Pixels, Shot, Style

KINDS = ("faceid", "faceid-plus", "faceid-plusv2", "portrait", "portrait-unnorm")

CARD = EngineCard(
    name="faceid",
    title="FaceID (IP-Adapter)",
    learns="instantly",
    bases=("sd15",),
    min_photos=1,
    packs=("faceid", "buffalo_l"),
    needs_canvas=False,
    paints_canvas=False,
    recogniser="w600k_r50",
    summary="Light and quick; follows prompts well. Non-commercial, as its face recogniser is.",
)
PLUSV2 = dataclasses.replace(
    CARD,
    name="faceid-plusv2",
    title="FaceID PlusV2 (IP-Adapter)",
    packs=("faceid-plusv2", "clip-vit-h", "buffalo_l"),
    summary="FaceID that also looks at the shape of the face. Non-commercial, as its face recogniser is.",
)
PORTRAIT = dataclasses.replace(
    CARD,
    name="faceid-portrait",
    title="FaceID Portrait (IP-Adapter)",
    packs=("faceid-portrait", "buffalo_l"),
    summary="FaceID for up to five photos; leaves style weights alone. Non-commercial, as its face recogniser is.",
)
XL = dataclasses.replace(
    CARD,
    name="faceid-xl",
    title="FaceID for SDXL (IP-Adapter)",
    bases=("sdxl",),
    packs=("faceid-xl", "buffalo_l"),
)


@dataclass(frozen=True, kw_only=True)
class FaceIdSettings:
    scale: float = 1.0  # of the face, 0…1
    lora_scale: float = 1.0  # of the low-rank weights inside the file; none at scale 0
    structure_scale: float = 1.0  # PlusV2: of what CLIP saw, beside the face vector
    sampler: str = "ddim"
    steps: int = 30
    guidance: float = 7.5


class FaceIdEngine:
    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        reader: FaceReader,
        kind: str = "",
        clip: Path | None = None,
        recogniser: str = "",
        card: EngineCard = CARD,
    ) -> None:
        """`base` gives a diffusers SD 1.5 or SDXL pipeline; `clip` is the ViT-H/14 image encoder Plus looks through.

        `kind` settles which file this is when its name does not; `recogniser` is for weights trained on another.
        """
        self._base, self._path, self._reader, self._kind = base, checkpoint, reader, kind
        self._clip, self._recogniser, self.card = clip, recogniser, card

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        kind = open_checkpoint(self._path, kinds=KINDS, layout=None, kind=self._kind).kind
        return learn_faces(person, self.card.name, kind, self._reader, tick, self._recogniser, file=self._path.name)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.attention import face_in, layout_of
        from facechain.engines.identity.lora import merged, numbered_pairs
        from facechain.engines.identity.project import Projector

        pipe = self._base()
        file = open_checkpoint(self._path, kinds=KINDS, layout=layout_of(pipe.unet), kind=self._kind)
        projector, weights = Projector(file, identity.data, self._clip), file.under("ip_adapter.")
        pairs = {} if file.kind.startswith("portrait") else numbered_pairs(pipe.unet, weights)
        with face_in(pipe.unet, weights, ("to_k_ip", "to_v_ip")) as face, merged(pipe.unet, pairs) as lora:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(FaceIdSettings, style, shot)
                face.give(projector.tokens(chosen.structure_scale))
                face.dial.scale = chosen.scale
                lora.set(chosen.lora_scale if chosen.scale else 0.0)
                return paint(pipe, worded(shot, style, identity.data), chosen, onto)

            yield one
