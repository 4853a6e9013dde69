"""Best of N stops for a reason, and never costs more than it may."""

from hypothesis import given
from hypothesis import strategies as st

from facechain.portraits.pool import Goal, stop

GOAL = Goal(keep=2, floor=0.5, budget=10)


def test_it_goes_on_until_enough_pass():
    assert stop(GOAL, []) == ""
    assert stop(GOAL, [0.1, 0.9, None, 0.3]) == ""
    assert stop(GOAL, [0.6, 0.1, 0.5]) == "Enough: 2 of 3 portraits are the same person and reach 0.5."


def test_it_says_why_it_gave_up():
    assert (
        stop(GOAL, [0.1] * 10)
        == "The budget of 10 portraits is used: 0 of 10 portraits are the same person and reach 0.5, 2 were wanted."
    )


@given(st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=60), st.integers(1, 8), st.integers(1, 30))
def test_never_past_the_budget_and_always_an_end(chances, keep, budget):
    goal, made = Goal(keep=keep, floor=0.5, budget=budget), []
    chances = [*chances, *[None] * budget]
    while not stop(goal, made):
        made.append(chances.pop(0))
    assert 1 <= len(made) <= budget
    assert sum(one is not None and one >= 0.5 for one in made) == keep or len(made) == budget
