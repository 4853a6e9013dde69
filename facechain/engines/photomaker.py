"""PhotoMaker v1 and v2 (Li et al. 2024) on SDXL: photos stacked into the prompt's class word."""

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
from facechain.engines.inpaint.repaint import skipped
from facechain.protocols import EngineCard, FaceReader, Identity, Paint, Tick, silent
from facechain.types import Canvas, Person, Pixels, Shot, Style

KINDS = ("photomaker-v1", "photomaker-v2")

CARD = EngineCard(
    name="photomaker",
    title="PhotoMaker",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("photomaker",),
    needs_canvas=False,
    paints_canvas=False,
    summary="Blends several photos; strong in styles and ages. Looks at the photos only, without a face recogniser.",
)
CARD_V2 = dataclasses.replace(
    CARD,
    name="photomaker-v2",
    title="PhotoMaker v2",
    packs=("photomaker-v2", "buffalo_l"),
    recogniser="w600k_r50",
    summary="As PhotoMaker, with more likeness. Non-commercial, as its face recogniser is.",
)


@dataclass(frozen=True, kw_only=True)
class PhotoMakerSettings:
    scale: float = 1.0  # of the low-rank weights; at 0 the photos are left out too
    trigger: str = "img"  # follows the class word, as in "a man img in the rain"
    merge_after: int = 10  # steps painted from the words alone; fewer: more likeness, less style
    most_photos: int = 4
    sampler: str = "euler"
    steps: int = 50
    guidance: float = 5.0


class PhotoMakerEngine:
    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        reader: FaceReader | None = None,
        recogniser: str = "",
        card: EngineCard = CARD,
    ) -> None:
        """`base` gives a diffusers SDXL pipeline; `reader` is needed for v2."""
        self._base, self._path, self._reader, self._recogniser = base, checkpoint, reader, recogniser
        self.card = card

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        kind = open_checkpoint(self._path, kinds=KINDS, layout=None).kind
        return learn_faces(person, self.card.name, kind, self._reader, tick, self._recogniser, file=self._path.name)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.attention import layout_of
        from facechain.engines.identity.lora import merged, named_pairs
        from facechain.engines.identity.photomaker_net import PhotoEncoder
        from facechain.engines.identity.photomaker_prompt import Stacked, photo_tokens, without_trigger

        pipe = self._base()
        file = open_checkpoint(self._path, kinds=KINDS, layout=layout_of(pipe.unet))
        encoder = PhotoEncoder(file.under("id_encoder."))
        with merged(pipe.unet, named_pairs(file.under("lora_weights."))) as lora:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(PhotoMakerSettings, style, shot)
                shot = worded(shot, style, identity.data, chosen.trigger)
                lora.set(chosen.scale)
                if not chosen.scale:
                    words = dataclasses.replace(shot, prompt=without_trigger(shot.prompt, chosen.trigger))
                    return paint(pipe, words, chosen, onto)
                tokens = photo_tokens(encoder, identity.data, chosen.most_photos)
                prompt = Stacked(pipe, shot, chosen.trigger, tokens, encoder.fusion)
                merge_after = chosen.merge_after - skipped(onto, chosen.steps)
                inputs = prompt.inputs(merge_after, chosen.guidance > 1)
                return paint(pipe, shot, chosen, onto, **inputs)

            yield one
