"""FaceChain-FACT on SD 1.5: patch tokens of a face-recognition transformer, through gates between the UNet's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.engines.identity.paint import paint, settings, worded
from facechain.protocols import EngineCard, Identity, Paint, Tick, silent
from facechain.types import Canvas, Person, Pixels, Shot, Style

CARD = EngineCard(
    name="fact",
    title="FaceChain-FACT",
    learns="instantly",
    bases=("sd15",),
    min_photos=1,
    packs=("fact",),
    needs_canvas=False,
    paints_canvas=False,
    recogniser="transface_s",
    summary="FaceChain's own adapter without training; leaves prompts and styles alone.",
)


@dataclass(frozen=True, kw_only=True)
class FactSettings:
    scale: float = 0.5
    most_photos: int = 1  # every photo adds 16 tokens
    sampler: str = ""  # empty: the base's own
    steps: int = 50
    guidance: float = 5.0


class FactEngine:
    card = CARD

    def __init__(self, *, base: Callable[[], Any], checkpoint: Path, transface: Path) -> None:
        """`base` gives the diffusers SD 1.5 pipeline the adapter was trained with; `transface` is its face encoder."""
        self._base, self._path, self._transface = base, checkpoint, transface

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        return learn_faces(person, "fact", "fact", None, tick, file=self._path.name)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.attention import layout_of
        from facechain.engines.identity.fact_net import gates_in
        from facechain.engines.identity.fact_tokens import FactTokens

        pipe = self._base()
        file = open_checkpoint(self._path, kinds=("fact",), layout=layout_of(pipe.unet))
        encoder = FactTokens(file, open_checkpoint(self._transface, kinds=("transface",), layout=None), identity.data)
        with gates_in(pipe.unet, file.tensors) as gates:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(FactSettings, style, shot)
                gates.give(encoder.tokens(chosen.most_photos))
                gates.dial.scale = chosen.scale
                return paint(pipe, worded(shot, style, identity.data), chosen, onto)

            yield one
