"""Which pictures are kept, and why; every one gets a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from facechain.judge.warp import WARPED
from facechain.judge.words import doubts
from facechain.types import Call, Verdict


def rank(
    pictures: Sequence[tuple[Verdict, ...]],
    keep: int,
    floor: float | None,
    expected_faces: int | None = None,
    vetoes: Mapping[int, str] | None = None,
) -> list[tuple[Verdict, ...]]:
    """The same verdicts in the same order, with `kept` and `why` filled in.

    The best `keep` pictures by their least alike person stay, if everybody in them is not called someone else and
    reaches `floor`, a likeness, where one is given. Sound faces come before warped ones; of equals the earlier picture
    wins. `vetoes` drops pictures by their place, for the
    reason given.
    """
    vetoes = vetoes or {}
    faults = [vetoes.get(at) or _fault(verdicts, floor, expected_faces) for at, verdicts in enumerate(pictures)]
    good = [index for index, fault in enumerate(faults) if not fault]
    worth = _likeness if any(v.llr is None for index in good for v in pictures[index]) else least
    order = sorted(good, key=lambda index: (_warped(pictures[index]), -worth(pictures[index]), index))
    place = {index: number for number, index in enumerate(order, 1)}
    ranked = []
    for index, verdicts in enumerate(pictures):
        if faults[index]:
            kept, why = False, f"dropped: {faults[index]}"
        elif place[index] > keep:
            kept, why = False, f"dropped: {_nth(place[index])} of {len(good)} by likeness, {keep} were asked for"
        else:
            kept, why = True, f"kept: {_nth(place[index])} of {len(good)} by likeness"
        ranked.append(tuple(replace(v, kept=kept, why="; ".join((why, *doubts(v)))) for v in verdicts))
    return ranked


def least(verdicts: Sequence[Verdict]) -> float:
    """The evidence for the person least alike: a log-likelihood ratio, or a likeness in records without one."""
    if any(v.llr is None for v in verdicts):
        return _likeness(verdicts)
    return min(v.llr for v in verdicts if v.llr is not None)


def _likeness(verdicts: Sequence[Verdict]) -> float:
    return min(v.likeness if v.likeness is not None else -1.0 for v in verdicts)


def _warped(verdicts: Sequence[Verdict]) -> bool:
    return any(v.warp is not None and v.warp >= WARPED for v in verdicts)


def _fault(verdicts: Sequence[Verdict], floor: float | None, expected_faces: int | None) -> str:
    for v in verdicts:
        if v.likeness is None:
            return "no face was found"
        if v.call is Call.OTHER:
            return f"likeness {v.likeness:.2f} to {v.person} means someone else"
        if floor is not None and v.likeness < floor:
            return f"likeness {v.likeness:.2f} to {v.person} is below the floor {floor:.2f}"
    faces = max((v.faces for v in verdicts), default=0)
    if expected_faces is not None and faces != expected_faces:
        noun, verb = "face" if faces == 1 else "faces", "was" if expected_faces == 1 else "were"
        return f"{faces} {noun} where {expected_faces} {verb} asked for"
    return ""


def _nth(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
