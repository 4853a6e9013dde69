"""Best of N: when enough portraits have been made, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Goal:
    """`keep` portraits at or above `floor`, out of at most `budget`."""

    keep: int
    floor: float  # likeness
    budget: int


def stop(goal: Goal, likenesses: Sequence[float | None]) -> str:
    """Why to stop after portraits of these likenesses (None: of no use), or "" to go on."""
    made = len(likenesses)
    passed = sum(1 for one in likenesses if one is not None and one >= goal.floor)
    told = f"{passed} of {made} portraits reach {goal.floor:g}"
    if passed >= goal.keep:
        return f"Enough: {told}."
    if made >= goal.budget:
        return f"The budget of {goal.budget} portraits is used: {told}, {goal.keep} were wanted."
    return ""
