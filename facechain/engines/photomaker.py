"""PhotoMaker v1 and v2 (Li et al. 2024) on SDXL: photos stacked into the prompt's class word."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from facechain.engines.diffusion.samplers import Sampler
from facechain.engines.identity.begin import begin
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import OnePhotoEngine
from facechain.engines.identity.paint import Brush, paint, settings, worded
from facechain.engines.inpaint.repaint import skipped
from facechain.options import Field, Guidance, Photos, Scale, Steps, options_of
from facechain.protocols import EngineCard, FaceReader, Identity, Paint
from facechain.types import Canvas, Pixels, Shot, Style


@dataclass(frozen=True, kw_only=True)
class PhotoMakerSettings(Brush):
    scale: Scale = 1.0  # of the low-rank weights; at 0 the photos are left out too
    trigger: str = "img"  # follows the class word, as in "a man img in the rain"
    merge_after: Annotated[int, Field(least=0, most=200)] = (
        10  # steps painted from the words alone; fewer: more likeness, less style
    )
    most_photos: Photos = 4
    average: bool = False  # the mean of all photos' tokens instead of one beside the other
    sampler: Sampler = "euler"
    steps: Steps = 50
    guidance: Guidance = 5.0


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
    options=tuple(
        option for option in options_of(PhotoMakerSettings) if option.name != "likeness"
    ),  # it reads no face vector
)
CARD_V2 = dataclasses.replace(
    CARD,
    name="photomaker-v2",
    title="PhotoMaker v2",
    packs=("photomaker-v2", "buffalo_l"),
    recogniser="w600k_r50",
    options=options_of(PhotoMakerSettings),
    summary="As PhotoMaker, with more likeness.",
)


class PhotoMakerEngine(OnePhotoEngine):
    kinds = ("photomaker-v1", "photomaker-v2")

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        reader: FaceReader | None = None,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`base` gives a diffusers SDXL pipeline; `reader` is needed for v2."""
        super().__init__(base=base, checkpoint=checkpoint, reader=reader, card=card, **more)

    @contextmanager
    def _paints(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.lora import merged, named_pairs
        from facechain.engines.identity.photomaker_net import PhotoEncoder
        from facechain.engines.identity.photomaker_prompt import Stacked, photo_tokens, without_trigger

        encoder = PhotoEncoder(file.under("id_encoder."))
        tokens = functools.cache(functools.partial(photo_tokens, encoder, identity.data))
        with merged(pipe.unet, named_pairs(file.under("lora_weights."))) as lora:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(PhotoMakerSettings, style, shot)
                shot = worded(shot, style, identity.data, chosen.trigger)
                lora.set(chosen.scale)
                if not chosen.scale:
                    words = dataclasses.replace(shot, prompt=without_trigger(shot.prompt, chosen.trigger))
                    return paint(pipe, words, chosen, onto, self._controlnets, self._lead(identity))
                photos = tokens(chosen.most_photos, chosen.average)
                prompt = Stacked(pipe, shot, chosen.trigger, photos, encoder.fusion)
                below = begin(chosen, shot, onto, self._controlnets)
                inputs = prompt.inputs(chosen.merge_after - skipped(below, chosen.steps), chosen.guidance > 1)
                return paint(pipe, shot, chosen, onto, self._controlnets, self._lead(identity), **inputs)

            yield one
