"""Who goes where in a picture with faces, and painting one person after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from facechain.errors import TemplateError
from facechain.protocols import Engine, Identity
from facechain.types import Canvas, Face, Pixels, Shot, Style

CHUNK = 8  # shots in memory at a time


def assign(faces: Sequence[Face], people: Sequence[str], slots: Sequence[int | None]) -> tuple[int, ...]:
    """The face, counted left to right from 0, each person becomes; others stay as they are.

    Without `slots` the first person gets the leftmost face and so on, but one person alone gets the largest.
    Raises TemplateError when there is no face, or too few, or a number is wrong.
    """
    if not faces:
        raise TemplateError("The template has no face that can be found.", "Choose a picture with a clear face.")
    if len(people) > len(faces):
        raise TemplateError(
            f"The template has {_count(len(faces), 'face')} for {len(people)} people.",
            "Choose another template, or fewer people.",
        )
    if not slots:
        if len(people) == 1:
            return (max(range(len(faces)), key=lambda i: faces[i].width_px * faces[i].height_px),)
        return tuple(range(len(people)))
    if len(slots) != len(people):
        raise TemplateError(f"{_count(len(slots), 'face number')} for {len(people)} people.", "Give one for each.")
    chosen = tuple(slot for slot in slots if slot is not None)
    if len(chosen) < len(slots) or len(set(chosen)) < len(chosen):
        raise TemplateError("Two people cannot have the same face.", "Give each a number of their own.")
    for slot in chosen:
        if not 0 <= slot < len(faces):
            raise TemplateError(
                f"There is no face {slot + 1}.", f"The template has {len(faces)}, counted from the left."
            )
    return chosen


def paint(
    engine: Engine,
    identities: Sequence[Identity],
    style: Style,
    shots: Sequence[Shot],
    template: Pixels | None,
    faces: tuple[Face, ...],
    slots: Sequence[int],
    words: Sequence[tuple[str, str]] = (),
) -> Iterator[tuple[Shot, Pixels]]:
    """Pictures in the order of `shots`. One identity is loaded at a time, so no face can leak into another.

    `words` are prompt and negative of each person, where they differ. An engine whose brush has `many` is given the
    shots of one identity together, to batch them as memory allows.
    """
    if len(identities) == 1 and template is None:
        with engine.sitting(identities[0], style) as brush:
            many = getattr(brush, "many", None)
            yield from zip(shots, many(shots) if many else map(brush, shots), strict=True)
        return
    for start in range(0, len(shots), CHUNK):
        chunk = shots[start : start + CHUNK]
        pictures: list[Pixels | None] = [template] * len(chunk)
        last = len(identities) - 1
        for number, identity in enumerate(identities):
            with engine.sitting(identity, style) as brush:
                for at, shot in enumerate(chunk):
                    below = pictures[at]
                    onto = None if below is None else Canvas(pixels=below, faces=faces, slot=slots[number])
                    said = dict(zip(("prompt", "negative"), words[number], strict=True)) if words else {}
                    painted = brush(replace(shot, **said), onto)
                    pictures[at] = painted
                    if number == last:
                        yield shot, painted


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
