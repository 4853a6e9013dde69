"""What was asked becomes what will be done."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

from facechain.limits import check_request
from facechain.protocols import Manner
from facechain.types import Request, Shot, Style


@dataclass(frozen=True, kw_only=True)
class Plan(Sequence[Shot]):
    """The shots of a request, each made when it is asked for; slices are plans too."""

    seed: int
    shared: Shot  # what all have in common
    indexes: Sequence[int]

    def __len__(self) -> int:
        return len(self.indexes)

    @overload
    def __getitem__(self, at: int) -> Shot: ...
    @overload
    def __getitem__(self, at: slice) -> Plan: ...
    def __getitem__(self, at: int | slice) -> Shot | Plan:
        if isinstance(at, slice):
            return replace(self, indexes=self.indexes[at])
        index = self.indexes[at]
        return replace(self.shared, index=index, seed=shot_seed(self.seed, index))

    def only(self, indexes: Sequence[int]) -> Plan:
        """These shots, in this order."""
        return replace(self, indexes=indexes)


def plan(request: Request, style: Style, prompt: str = "", negative: str = "") -> Plan:
    """One shot a picture, each with its own seed drawn from the request's, whose options outrank the style's.

    `prompt` and `negative` are what the request's words became for this person; by default those of the style
    followed by the request's own. Raises UserError for a request beyond `limits`.
    """
    check_request(request)
    shared = Shot(
        index=0,
        seed=0,
        prompt=prompt or ", ".join(filter(None, (style.prompt, request.prompt))),
        negative=negative or ", ".join(filter(None, (style.negative, request.negative))),
        width_px=request.width_px or style.width_px,
        height_px=request.height_px or style.height_px,
        options={**style.options, **request.options},
    )
    return Plan(seed=resolve_seed(request.seed), shared=shared, indexes=range(request.count))


def mannered(style: Style, manner: Manner) -> Style:
    """The look as a base paints it: its words stay, but size, sampler, steps and guidance are the base's where it has
    its own, for a style's were chosen on other bases."""
    own = {"steps": manner.steps, "guidance": manner.guidance, "sampler": manner.sampler}
    chosen = {name: value for name, value in own.items() if value is not None and value != ""}
    if manner.side_px:
        chosen |= {"width_px": manner.side_px, "height_px": manner.side_px}
    options = {name: value for name, value in style.options.items() if name not in chosen}
    return replace(style, **chosen, options={**options, **manner.options})


def resolve_seed(seed: int | None) -> int:
    return secrets.randbelow(2**32) if seed is None else seed


def shot_seed(seed: int, index: int) -> int:
    """32 bits that depend on nothing but the two numbers, so a shot can be made anywhere, in any order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4], "big")
