"""Arc2Face (Papantoniou et al. 2024): a face from its identity code alone, on its own SD 1.5 UNet; no free prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.engines.identity.paint import paint, settings, sibling
from facechain.protocols import EngineCard, FaceReader, Identity, Paint, Tick, silent
from facechain.types import Canvas, Person, Pixels, Shot, Style

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
    summary="Photographs of the person and nothing else: no prompt, varied poses. Commercial use is doubtful.",
)


@dataclass(frozen=True, kw_only=True)
class Arc2FaceSettings:
    scale: float = 1.0  # 0: an unnamed person, 1: as published; between, the word and the face are mixed
    sampler: str = "dpmpp_2m"
    steps: int = 25
    guidance: float = 3.0


class Arc2FaceEngine:
    card = CARD

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        text_encoder: Path,
        reader: FaceReader,
        unet: Path | None = None,
        recogniser: str = "",
    ) -> None:
        """`base` gives an SD 1.5 pipeline, `text_encoder` is the weight file of Arc2Face's own.

        `unet` is the diffusers folder of its UNet; None when the base has it already.
        """
        self._base, self._path, self._reader, self._recogniser = base, text_encoder, reader, recogniser
        self._unet = unet

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        return learn_faces(person, "arc2face", "arc2face", self._reader, tick, self._recogniser, file=self._path.name)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.arc2face_net import face_prompt, open_unet, with_weights
        from facechain.engines.identity.attention import layout_of

        base = self._base()
        file = open_checkpoint(self._path, kinds=("arc2face",), layout=layout_of(base.unet))
        encoder = with_weights(base.text_encoder, file.under("text_model."))
        own = {} if self._unet is None else {"unet": open_unet(self._unet, base.unet)}
        pipe = sibling(base, type(base), text_encoder=encoder, **own)

        def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
            chosen = settings(Arc2FaceSettings, style, shot)
            prompt = face_prompt(pipe.tokenizer, encoder, identity.data.fused.vector, chosen.scale)
            return paint(pipe, shot, chosen, onto, prompt_embeds=prompt)

        yield one
