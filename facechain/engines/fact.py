"""FaceChain-FACT on SD 1.5: patch tokens of a face-recognition transformer, through gates between the UNet's layers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.samplers import Sampler
from facechain.engines.identity.checkpoint import Checkpoint, open_checkpoint
from facechain.engines.identity.engine import OnePhotoEngine
from facechain.engines.identity.paint import Brush, paint, settings, worded
from facechain.options import Guidance, Photos, Scale, Share, Steps, options_of
from facechain.protocols import EngineCard, Identity, Paint
from facechain.types import Canvas, Pixels, Shot, Style


@dataclass(frozen=True, kw_only=True)
class FactSettings(Brush):
    scale: Scale = 0.5
    until: Share = 1.0  # share of the steps the face takes part in; early ones decide most, and each costs 2/5 more
    most_photos: Photos = 1  # every photo adds 16 tokens
    average: bool = False  # of the tokens of all photos instead
    sampler: Sampler = ""  # empty: the base's own
    steps: Steps = 50
    guidance: Guidance = 5.0


CARD = EngineCard(
    name="fact",
    title="FaceChain-FACT",
    learns="instantly",
    bases=("sd15",),
    min_photos=1,
    packs=("fact", "transface"),
    needs_canvas=False,
    paints_canvas=False,
    recogniser="transface_s",
    summary="FaceChain's own adapter without training, for film-like bases; leaves prompts and styles alone.",
    options=tuple(
        option for option in options_of(FactSettings) if option.name != "likeness"
    ),  # it reads no face vector
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
        self, *, base: Callable[[], Any], checkpoint: Path, transface: Path, card: EngineCard = CARD, **more: Any
    ) -> None:
        """`base` gives the SD 1.5 pipeline the adapter was trained with; `transface` is its face encoder's file."""
        super().__init__(base=base, checkpoint=checkpoint, card=card, **more)
        self._transface = transface

    @contextmanager
    def _paints(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.fact_net import gates_in
        from facechain.engines.identity.fact_tokens import FactTokens

        seen = open_checkpoint(self._transface, kinds=("transface",), layout=None)
        tokens = functools.cache(FactTokens(file, seen, identity.data).tokens)
        with gates_in(pipe.unet, file.tensors) as gates:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(FactSettings, style, shot)
                gates.give(tokens(chosen.most_photos, chosen.average))
                gates.dial.scale = chosen.scale if chosen.until > 0 else 0.0
                more = {} if not 0 < chosen.until < 1 else {"callback_on_step_end": gates.off_after(chosen.until)}
                words = worded(shot, style, identity.data)
                return paint(pipe, words, chosen, onto, self._controlnets, self._lead(identity), **more)

            yield one
