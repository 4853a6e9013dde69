"""Best of N stops for a reason, and never costs more than it may."""

from hypothesis import given
from hypothesis import strategies as st

from facechain.portraits.pool import Goal, best, following

GOAL = Goal(keep=2, floor=0.5, budget=10, batch=4)


def test_it_goes_on_until_enough_pass():
    assert following(GOAL, []).make == 4
    assert following(GOAL, [0.1, 0.2, None, 0.3]).make == 4
    assert following(GOAL, [0.1, 0.9, None, 0.3]).make == 4
    assert following(GOAL, [0.6, 0.4]).make == 2
    done = following(GOAL, [0.6, 0.1, 0.5])
    assert (done.make, done.why) == (0, "Enough: 2 of 3 portraits reach 0.5.")


def test_it_says_why_it_gave_up():
    assert "budget of 10" in following(GOAL, [0.1] * 10).why
    late = following(Goal(keep=1, floor=0.5, budget=10, seconds=60), [0.1], seconds=61)
    assert late.make == 0
    assert "0 of 1 portraits reach 0.5, 1 were wanted" in late.why


@given(
    st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=200),
    st.integers(1, 8),
    st.integers(1, 30),
    st.integers(1, 8),
)
def test_never_past_the_budget_and_always_an_end(chances, keep, budget, batch):
    goal, made = Goal(keep=keep, floor=0.5, budget=budget, batch=batch), []
    chances = [*chances, *[None] * budget]
    while (step := following(goal, made)).make:
        assert 1 <= step.make <= batch
        made += [chances.pop(0) for _ in range(step.make)]
        assert len(made) <= budget
    assert step.why
    passed = sum(one is not None and one >= 0.5 for one in made)
    assert passed >= keep or len(made) == budget


def test_the_best_first():
    assert best([0.2, None, 0.9, 0.2], 3) == (2, 0, 3)
    assert best([None, None], 5) == (0, 1)
