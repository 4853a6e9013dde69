"""Every engine by name. Listing reads cards only; an engine's heavy libraries are imported when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from facechain.engines.template.card import CARD as TEMPLATE
from facechain.protocols import Engine, EngineCard, FaceReader, Landmarker, Parser


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What an engine may be handed; each is opened only when asked for."""

    reader: Callable[[str], FaceReader]  # by name
    landmarker: Callable[[], Landmarker]
    parser: Callable[[], Parser]


@dataclass(frozen=True, kw_only=True)
class Entry:
    card: EngineCard
    open: Callable[[Workshop], Engine]


def _template(workshop: Workshop) -> Engine:
    from facechain.engines.template.engine import TemplateEngine

    return TemplateEngine(workshop.landmarker(), workshop.parser())


ENGINES: dict[str, Entry] = {entry.card.name: entry for entry in (Entry(card=TEMPLATE, open=_template),)}
