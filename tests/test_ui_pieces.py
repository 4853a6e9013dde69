"""The small pieces pages are made of."""

from datetime import UTC, datetime

import pytest

from facechain.errors import UserError
from facechain.types import Job, JobState
from facechain.ui.fields import Optional
from facechain.ui.html import button, esc, notice, progress, size, url
from facechain.ui.phrases import Words
from facechain.ui.tabs.template import _face, _next
from facechain.ui.tabs.train import curve

W = Words()
HOSTILE = '"><script>alert(1)</script>'


def _job(**changes):
    values = {
        "id": "j1",
        "kind": "make",
        "owner": "",
        "arguments": {},
        "state": JobState.RUNNING,
        "position": None,
        "stage": "painting",
        "done": 3,
        "total": 8,
        "eta_s": 100.0,
        "preview": None,
        "cancelling": False,
        "result": None,
        "error": "",
        "next_step": "",
        "attempt": 1,
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "started": None,
        "seen": None,
        "ended": None,
    }
    return Job(**{**values, **changes})


def test_a_job_says_how_far_and_how_long_and_can_be_stopped():
    text = progress(W, _job(), "Making portraits")
    for wanted in ("Painting · 3 of 8 · about 2 min left", 'value="3" max="8"', 'data-do="cancel"'):
        assert wanted in text


def test_messages_with_peoples_text_are_not_markup():
    """gr.Error shows its message as HTML."""
    import gradio as gr

    from facechain.ui.desk import Shop

    def fails():
        raise UserError(f"There is no style {HOSTILE}.", "See `facechain styles`.")

    with pytest.raises(gr.Error) as caught:
        Shop(w=W, watch=None, blocks=None, safe_only=None).guarded(fails)()
    assert "<script>" not in caught.value.message
    assert "&lt;script&gt;" in caught.value.message


def test_a_job_that_is_stopping_cannot_be_stopped_twice():
    text = progress(W, _job(cancelling=True), "Making portraits")
    assert "Stopping" in text
    assert "data-do" not in text


def test_a_killed_worker_is_told_without_a_terminal():
    lost = _job(state=JobState.FAILED, error="Its worker was killed.", next_step="Try again: facechain jobs retry j1.")
    text = progress(W, lost, "Making portraits")
    assert "facechain" not in text
    assert 'data-do="retry"' in text


def test_names_cannot_become_markup():
    pieces = (
        progress(W, _job(state=JobState.FAILED, error=HOSTILE), HOSTILE),
        button("open", HOSTILE, HOSTILE, label=HOSTILE, confirm=HOSTILE),
        notice(HOSTILE),
        _face(W, 0, [0, 0, 1, 1], HOSTILE),
        url("pictures", HOSTILE, w=HOSTILE),
    )
    for piece in pieces:
        assert "<script" not in piece


def test_a_file_name_that_is_no_text_does_not_break_a_page():
    assert esc("a\udcff<b>.jpg") == "a?&lt;b&gt;.jpg"


def test_an_address_keeps_its_parts_apart():
    assert url("pictures", "../../etc", "a b") == "/pictures/..%2F..%2Fetc/a%20b"


def test_faces_go_round_the_people_and_nobody_is_in_twice():
    names = ["Ada", "Bob"]
    who = _next({}, "0", names)
    assert who == {"0": "Ada"}
    who = _next(who, "1", names)
    assert who == {"0": "Ada", "1": "Bob"}
    assert _next(who, "0", names) == {"1": "Bob"}  # Bob is taken, so after Ada comes nobody
    assert _next({"0": "Ada"}, "0", names) == {"0": "Bob"}


@pytest.mark.parametrize(("text", "value"), [("", None), (" 7 ", 7), ("0", 0)])
def test_a_number_may_be_left_empty(text, value):
    field = Optional(box=None, label="Seed", kind=int, least=0, most=100)  # type: ignore[arg-type]
    assert field.read(W, text) == value


@pytest.mark.parametrize("text", ["x", "1.5", "-1", "101", "1e9", "nan"])
def test_other_numbers_are_refused_by_name(text):
    field = Optional(box=None, label="Seed", kind=int, least=0, most=100)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Seed"):
        field.read(W, text)


def test_the_curve_has_its_numbers_in_a_table_too():
    text = curve(W, ((100, 0.2), (200, 0.5)))
    assert text.count("<circle") == 2
    assert "<td>200</td><td>0.500</td>" in text
    assert "svg" not in curve(W, ((100, 0.2),))  # one point is no curve


def test_sizes():
    assert [size(n) for n in (0, 1, 2_300_000, 4_200_000_000)] == ["–", "0.1 MB", "2.3 MB", "4.2 GB"]


def test_loras_are_named_a_line_at_this_machine_and_not_from_afar():
    from facechain.ui.desk import Desk

    lines = " a.safetensors:0.5 \n\nstyle:v2.safetensors\n"
    assert Desk(owner="", w=Words()).own_files(lines) == ["a.safetensors:0.5", "style:v2.safetensors"]
    assert Desk(owner="ann", w=Words()).own_files(" \n") == []
    with pytest.raises(UserError, match="cannot be named from here"):
        Desk(owner="ann", w=Words()).own_files(lines)
