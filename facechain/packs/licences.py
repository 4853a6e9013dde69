"""What a combination of packs allows: as free as its least free part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from facechain.packs.manifest import COMMERCIAL, Licence, Pack

_SENTENCES = {
    "yes": "Commercial use is allowed.",
    "ask": "Commercial use needs a closer look at {packs}.",
    "no": "Not for commercial use, because of {packs}.",
}


@dataclass(frozen=True, kw_only=True)
class Combination:
    commercial: str  # "yes", "no" or "ask": the least free of the parts
    sentence: str  # for people
    parts: tuple[tuple[str, Licence], ...]  # pack id and licence


def combination(packs: Iterable[Pack]) -> Combination:
    """Nothing at all is free."""
    parts = tuple((pack.id, pack.licence) for pack in packs)
    commercial = min((licence.commercial for _, licence in parts), key=COMMERCIAL.index, default="yes")
    limiting = ", ".join(id for id, licence in parts if licence.commercial == commercial)
    return Combination(commercial=commercial, sentence=_SENTENCES[commercial].format(packs=limiting), parts=parts)
