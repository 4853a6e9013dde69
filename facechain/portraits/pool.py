"""Best of N: how many more portraits to make, and why it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Goal:
    """`keep` portraits at or above `floor`; what a pool may cost is `budget` portraits or `seconds`, if given."""

    keep: int
    floor: float  # likeness
    budget: int
    batch: int = 4  # portraits made at a time
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Next:
    """`make` more portraits; 0 means stop, and `why` says so in a sentence."""

    make: int
    why: str = ""


def following(goal: Goal, likenesses: Sequence[float | None], seconds: float = 0.0) -> Next:
    """What to do after portraits of these likenesses (None: no face) and this time. Depends on nothing else."""
    made = len(likenesses)
    passed = sum(1 for one in likenesses if one is not None and one >= goal.floor)
    told = f"{passed} of {made} portraits reach {goal.floor:g}"
    if passed >= goal.keep:
        return Next(make=0, why=f"Enough: {told}.")
    if made >= goal.budget:
        return Next(make=0, why=f"The budget of {goal.budget} portraits is used: {told}, {goal.keep} were wanted.")
    if goal.seconds is not None and seconds >= goal.seconds:
        return Next(make=0, why=f"The time of {goal.seconds:g} s is used: {told}, {goal.keep} were wanted.")
    missing = goal.keep - passed
    # With a record of passes, as many as should fill what is missing; without one, a batch.
    wanted = -(-missing * made // passed) if passed else goal.batch
    return Next(make=max(1, min(wanted, goal.batch, goal.budget - made)))


def best(likenesses: Sequence[float | None], keep: int) -> tuple[int, ...]:
    """Indices of the best `keep`, highest first; portraits without a face come last, equals in their order."""
    ranked = sorted(range(len(likenesses)), key=lambda i: (likenesses[i] is None, -(likenesses[i] or 0.0), i))
    return tuple(ranked[:keep])
