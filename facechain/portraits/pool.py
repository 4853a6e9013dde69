"""Best of N: when enough portraits have been made, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Goal:
    """`keep` portraits of the same person, at or above `floor` where one is asked for, out of at most `budget`."""

    keep: int
    floor: float | None  # likeness
    budget: int


def stop(goal: Goal, likenesses: Sequence[float | None]) -> str:
    """Why to stop after portraits of these likenesses (None: not the same person, or of no use), or "" to go on."""
    made = len(likenesses)
    passed = sum(1 for one in likenesses if one is not None and (goal.floor is None or one >= goal.floor))
    told = f"{passed} of {made} portraits are the same person"
    if goal.floor is not None:
        told += f" and reach {goal.floor:g}"
    if passed >= goal.keep:
        return f"Enough: {told}."
    if made >= goal.budget:
        return f"The budget of {goal.budget} portraits is used: {told}, {goal.keep} were wanted."
    return ""
