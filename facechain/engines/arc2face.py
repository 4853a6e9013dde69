"""Arc2Face (Papantoniou et al. 2024): a face from its identity code alone, on its own SD 1.5 UNet; no free prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.samplers import Sampler
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import OnePhotoEngine
from facechain.engines.identity.paint import Brush, paint, settings, sibling
from facechain.options import Guidance, Scale, Steps, options_of
from facechain.protocols import EngineCard, FaceReader, Identity, Paint
from facechain.types import Canvas, Pixels, Shot, Style


@dataclass(frozen=True, kw_only=True)
class Arc2FaceSettings(Brush):
    scale: Scale = 1.0  # 0: an unnamed person, 1: as published; between, the word and the face are mixed
    average: bool = True  # one face averaged over all photos; False: the best photo alone
    sampler: Sampler = "dpmpp_2m"
    steps: Steps = 25
    guidance: Guidance = 3.0


CARD = EngineCard(
    name="arc2face",
    title="Arc2Face",
    learns="instantly",
    bases=("sd15",),
    min_photos=1,
    packs=("arc2face",),
    needs_canvas=False,
    paints_canvas=False,
    recogniser="arcface",
    summary="Photographs of the person and nothing else: no prompt, varied poses.",
    options=options_of(Arc2FaceSettings),
)


class Arc2FaceEngine(OnePhotoEngine):
    kinds = ("arc2face",)

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        text_encoder: Path,
        reader: FaceReader,
        unet: Path | None = None,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`base` gives an SD 1.5 pipeline, `text_encoder` is the weight file of Arc2Face's own.

        `unet` is the diffusers folder of its UNet; None when the base has it already.
        """
        super().__init__(base=base, checkpoint=text_encoder, reader=reader, card=card, **more)
        self._unet = unet

    @contextmanager
    def _paints(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.arc2face_net import face_prompt, open_unet, with_weights

        encoder = with_weights(pipe.text_encoder, file.under("text_model."))
        own = {} if self._unet is None else {"unet": open_unet(self._unet, pipe.unet)}
        pipe = sibling(pipe, type(pipe), text_encoder=encoder, **own)

        def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
            chosen = settings(Arc2FaceSettings, style, shot)
            face = identity.data.fused if chosen.average else identity.data.vectors[0]
            prompt = face_prompt(pipe.tokenizer, encoder, face.vector, chosen.scale)
            return paint(pipe, shot, chosen, onto, self._controlnets, self._lead(identity), prompt_embeds=prompt)

        yield one
