"""Long lists in pages: a cursor says after which item to go on, and stays right while items come and go."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from facechain.api.schemas import Page
from facechain.errors import UserError

Value = TypeVar("Value")
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[str, Query(max_length=1000, pattern=r"^[A-Za-z0-9_-]*$", description="`next` of the page before.")]


def cut(
    values: Sequence[Value],
    key: Callable[[Value], tuple[str, ...]],
    show: Callable[[Value], Item],
    limit: int,
    cursor: str,
) -> Page[Item]:
    """`values` in ascending order of `key`; those after the cursor's, `limit` at most."""
    after = read(cursor) if cursor else None
    left = [value for value in values if after is None or key(value) > after]
    more = len(left) > limit
    return Page(items=[show(value) for value in left[:limit]], next=write(key(left[limit - 1])) if more else None)


def write(key: tuple[str, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def read(cursor: str) -> tuple[str, ...]:
    """Raises UserError for what `write` never wrote."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        key = None
    if not isinstance(key, list) or not key or not all(isinstance(part, str) for part in key):
        raise UserError("This cursor is not one of ours.", "Take `next` of the page before, or leave it out.")
    return tuple(key)
