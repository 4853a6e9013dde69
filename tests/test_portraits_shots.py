"""Requests become shots that leave nothing to guess."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.errors import UserError
from facechain.limits import PORTRAITS, SEED
from facechain.portraits.shots import mannered, plan, resolve_seed, shot_seed
from facechain.protocols import Manner
from facechain.types import Request, Style

STYLE = Style(
    id="test", title="test", licence="none", prompt="oil painting", negative="blur", width_px=640, height_px=800
)


def ask(**values) -> Request:
    return Request(people=("Ada",), **values)


@given(st.integers(0, SEED), st.integers(1, 40), st.integers(1, 40))
def test_a_seed_names_each_picture_however_many_are_asked_for(seed, few, more):
    few, more = sorted((few, more))
    shots = plan(ask(seed=seed, count=more), STYLE)
    assert list(shots[:few]) == list(plan(ask(seed=seed, count=few), STYLE))
    assert [shot.index for shot in shots] == list(range(more))
    assert all(0 <= shot.seed < 2**32 for shot in shots)


def test_seeds_do_not_repeat():
    seeds = {shot_seed(seed, index) for seed in range(100) for index in range(100)}
    assert len(seeds) > 9_980  # of 10,000 drawn from 2³², fewer than one pair is expected to meet


def test_seeds_are_the_same_on_every_machine():  # the first 32 bits of sha256("1/0") …
    assert [shot_seed(1, index) for index in range(3)] == [416735690, 624792847, 3644428911]


def test_an_open_seed_is_drawn_anew():
    assert resolve_seed(0) == 0
    assert len({resolve_seed(None) for _ in range(20)}) > 15
    assert plan(ask(), STYLE)[0].seed != plan(ask(), STYLE)[0].seed


def test_the_request_outranks_the_style():
    style = Style(id="s", title="s", licence="none", options={"steps": 30, "guidance": 5.0})
    shot = plan(ask(options={"steps": 8, "strength": 0.5}), style)[0]
    assert shot.options == {"steps": 8, "guidance": 5.0, "strength": 0.5}
    assert style.options == {"steps": 30, "guidance": 5.0}


def test_words_and_size():
    shot = plan(ask(prompt="in the rain", negative="hats"), STYLE)[0]
    assert (shot.prompt, shot.negative) == ("oil painting, in the rain", "blur, hats")
    assert (shot.width_px, shot.height_px) == (640, 800)
    written = plan(ask(prompt="in the rain"), STYLE, "all of it", "none of it")[0]
    assert (written.prompt, written.negative) == ("all of it", "none of it")


def test_a_size_of_ones_own():
    shot = plan(ask(width_px=768), STYLE)[0]
    assert (shot.width_px, shot.height_px) == (768, 800)


@pytest.mark.parametrize("side", [0, -8, 63, 500, 4104])
def test_sizes_that_cannot_be_painted(side):
    with pytest.raises(UserError, match=f"height_px is {side}"):
        plan(ask(height_px=side), STYLE)


@pytest.mark.parametrize("count", [0, -5, PORTRAITS + 1, 10**9, 1e308, float("nan"), 2.5, True])
def test_a_count_outside_the_limits_is_refused_before_anything_is_planned(count):
    with pytest.raises(UserError, match=r"count is .* from 1 to 10,000"):
        plan(ask(count=count), STYLE)


def test_shots_are_made_when_asked_for(monkeypatch):
    made = []
    monkeypatch.setattr("facechain.portraits.shots.shot_seed", lambda seed, index: made.append(index) or index)
    shots = plan(ask(seed=1, count=PORTRAITS), STYLE)
    assert (len(shots), made) == (PORTRAITS, [])
    assert shots[-1].index == shots.only([7, PORTRAITS - 1])[1].index == PORTRAITS - 1
    assert len(made) == 2


def test_a_bases_manner_outranks_what_a_look_was_chosen_for_elsewhere():
    style = Style(id="x", title="x", licence="", prompt="rain", guidance=6.5, sampler="euler", height_px=640)
    style = replace(style, options={"steps": 40, "scale": 0.5})
    as_it_is = mannered(style, Manner())
    assert as_it_is == style
    own = mannered(style, Manner(side_px=128, steps=25, guidance=0.0, options={"scale": 1.0}))
    assert (own.width_px, own.height_px, own.steps, own.guidance, own.sampler) == (128, 128, 25, 0.0, "euler")
    assert (own.prompt, own.options) == ("rain", {"scale": 1.0})
