"""What changes by itself: every page asks once a second and a half, and redraws only what has changed.

Nothing is remembered in the page: a closed and reopened one finds its running jobs in their records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from facechain.types import Job
from facechain.ui.desk import CHANGES, OPEN, Desk, Shop, log

EVERY_S = 1.5


@dataclass(frozen=True, kw_only=True)
class Piece:
    """`render(desk, *inputs)` gives the component's new value, drawn again when a job of `kinds` moves.

    With `live` every step of a running job counts, otherwise only its coming and going. `sign(desk)` is what else it
    shows that may change.
    """

    output: Any
    render: Callable[..., Any]
    inputs: tuple[Any, ...]
    kinds: tuple[str, ...]
    live: bool
    sign: Callable[[Desk], object]


class Watch:
    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    def add(
        self,
        output: Any,
        render: Callable[..., Any],
        inputs: Sequence[Any] = (),
        kinds: Sequence[str] = (),
        live: bool = False,
        sign: Callable[[Desk], object] = lambda desk: None,
    ) -> None:
        self._pieces.append(
            Piece(output=output, render=render, inputs=tuple(inputs), kinds=tuple(kinds), live=live, sign=sign)
        )

    def wire(self, shop: Shop) -> None:
        """To be called when every tab has added its pieces."""
        pieces = self._pieces
        inputs = [component for piece in pieces for component in piece.inputs]
        seen = gr.State({})
        timer = gr.Timer(EVERY_S)

        def look(request: gr.Request, known: dict[str, str], *values: Any) -> list[Any]:
            desk, left = shop.desk(request), list(values)
            recent, stamps, drawn = desk.recent(), dict(known), []
            for number, piece in enumerate(pieces):
                mine, left = left[: len(piece.inputs)], left[len(piece.inputs) :]
                stamp = _stamp(piece, desk, recent, mine)
                if known.get(str(number)) == stamp:
                    drawn.append(gr.skip())
                else:
                    stamps[str(number)] = stamp
                    drawn.append(_drawn(piece, desk, mine))
            return [stamps if stamps != known else gr.skip(), *drawn]

        bound = {
            "fn": shop.guarded(look),
            "inputs": [seen, *inputs],
            "outputs": [seen, *(piece.output for piece in pieces)],
            "show_progress": "hidden",
            "api_visibility": "private",
            "concurrency_limit": None,
        }
        shop.blocks.load(**bound)
        timer.tick(**bound, trigger_mode="once")


def _drawn(piece: Piece, desk: Desk, values: Sequence[Any]) -> Any:
    """What cannot be drawn stays as it is, and takes nothing else of the page with it."""
    try:
        return piece.render(desk, *values)
    except Exception:
        log.exception("a piece of the page cannot be drawn")
        return gr.skip()


def _stamp(piece: Piece, desk: Desk, recent: Sequence[Job], values: Sequence[Any]) -> str:
    jobs = [job for job in recent if job.kind in piece.kinds]
    if piece.live:
        moved = [(job.id, job.state, job.stage, job.done, job.total, job.position, job.cancelling) for job in jobs]
        moved += [(job.id, job.preview, job.attempt, job.eta_s) for job in jobs if job.state in OPEN]
    else:
        moved = [(job.id, job.state) for job in jobs]
    text = json.dumps([CHANGES.of(desk.owner), moved, list(values), piece.sign(desk)], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
