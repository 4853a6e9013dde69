"""What one request may ask for and its texts may hold, the same at every door.

Imports nothing heavy: the command line's help and the web server's schemas read these numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from facechain.errors import UserError

if TYPE_CHECKING:
    from facechain.types import Request

PORTRAITS = 10_000  # of one request
PEOPLE = 20  # in one picture
SEED = 2**32 - 1
SIDE_PX, SIDE_STEP_PX = (64, 4096), 8
TEXT = 2_000  # characters of a prompt; tokenizers take time quadratic in a run of combining marks
OPTIONS = 50
BATCH_PORTRAITS = 1_000_000
BATCH_ORDERS = 100_000  # people × styles

# <lora:name:weight> and <lyco:…> as web interfaces write them; here they would be read as words.
_EXTRA_NETWORK = re.compile(r"<\s*(lora|lyco|hypernet)\s*:[^<>]*>", re.IGNORECASE)


def check_request(request: Request) -> None:
    """Raises UserError, naming the field, for what cannot be made whatever the engine."""
    whole("count", request.count, 1, PORTRAITS)
    for name in ("keep", "budget"):
        if (value := getattr(request, name)) is not None:
            whole(name, value, 1, PORTRAITS)
    if request.seed is not None:
        whole("seed", request.seed, 0, SEED)
    for name in ("width_px", "height_px"):
        if (side := getattr(request, name)) is not None and whole(name, side, *SIDE_PX) % SIDE_STEP_PX:
            raise UserError(f"{name} is {side}.", f"Give a multiple of {SIDE_STEP_PX}.")
    if request.floor is not None and not -1 <= request.floor <= 1:
        raise UserError(f"floor is {request.floor:g}.", "Give a number from -1 to 1.")
    whole("the number of people", len(request.people), 1, PEOPLE)
    for slot in request.slots:
        if slot is not None and not isinstance(slot, int):
            raise UserError(f"A face number is {slot!r}.", "Give whole numbers.")
    for name in ("engine", "base", "style"):
        text(name, getattr(request, name))
    for name in ("prompt", "negative"):
        prompt(name, getattr(request, name))
    check_options(request.options)


def check_options(options: Mapping[str, object]) -> None:
    """Raises UserError for more settings than any engine has, and for values no engine could read."""
    whole("the number of settings", len(options), 0, OPTIONS)
    for name, value in options.items():
        text("the name of a setting", name)
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, str):
                text(name, one)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} is {value}.", "Give a finite number.")


def whole(name: str, value: float, least: int, most: int) -> int:
    """`value` as an int. Raises UserError unless it is a whole number in this range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 or not least <= value <= most:
        raise UserError(f"{name} is {value!r:.40}.", f"Give a whole number from {least:,} to {most:,}.")
    return int(value)


def text(name: str, given: str, longest: int = TEXT) -> str:
    """`given`. Raises UserError when it is too long, or holds what cannot be stored as UTF-8 or shown as text."""
    if len(given) > longest:
        raise UserError(f"{name} has {len(given):,} characters.", f"Use at most {longest:,}.")
    if any("\ud800" <= character <= "\udfff" for character in given):
        raise UserError(f"{name} contains half of a character (a lone surrogate).", "Type or copy that text again.")
    if "\0" in given:
        raise UserError(f"{name} contains a NUL character.", "Remove it.")
    return given


def prompt(name: str, given: str) -> str:
    """`given`. Raises UserError as `text` does, and for LoRA tags, which prompts do not load here."""
    if found := _EXTRA_NETWORK.search(text(name, given)):
        raise UserError(
            f"{name} contains {found[0][:80]!r}, which is not read from prompts here.",
            "Remove it; add the file with --set lora=FILE.safetensors:0.8 and --engine lora.",
        )
    return given
