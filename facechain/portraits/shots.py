"""What was asked becomes what will be done."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace

from facechain.errors import EngineError
from facechain.protocols import Manner
from facechain.types import Request, Shot, Style


def plan(request: Request, style: Style, prompt: str = "", negative: str = "") -> tuple[Shot, ...]:
    """One shot a picture, each with its own seed drawn from the request's, whose options outrank the style's.

    `prompt` and `negative` are what the request's words became for this person; by default those of the style
    followed by the request's own.
    Raises EngineError when nothing is asked for, or a size that cannot be painted.
    """
    if request.count < 1:
        raise EngineError(f"{request.count} pictures were asked for.", "Ask for one or more.")
    for side in (request.width_px, request.height_px):
        if side is not None and (side % 8 or not 64 <= side <= 4096):
            raise EngineError(f"A picture cannot be {side} px wide or high.", "Take multiples of 8, from 64 to 4096.")
    seed = resolve_seed(request.seed)
    words = prompt or ", ".join(filter(None, (style.prompt, request.prompt)))
    unwanted = negative or ", ".join(filter(None, (style.negative, request.negative)))
    return tuple(
        Shot(
            index=index,
            seed=shot_seed(seed, index),
            prompt=words,
            negative=unwanted,
            width_px=request.width_px or style.width_px,
            height_px=request.height_px or style.height_px,
            options={**style.options, **request.options},
        )
        for index in range(request.count)
    )


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
