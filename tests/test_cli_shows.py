"""What a terminal or a log shows: people's text as it is, and progress where nobody watches."""

import io

import pytest

from facechain.cli import guarded, progress, show
from facechain.cli.text import plain
from facechain.errors import UserError
from facechain.studio import Result


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_people_and_files_in_square_brackets_stay_in_tables(capsys, wide):
    names = ["Bo [work]", "Bo [/work]", "family [red].jpg", "[bold]x[/bold]", ":smile:", "[link=x]y[/link]"]
    show.table("", ("person",), [(name,) for name in names])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[1:]] == names


@pytest.mark.parametrize("hostile", ["a\x1b[31mb", "a\x07b", "a\x9bb", "a\udcffb", "a\rb"])
def test_a_terminal_obeys_no_file_name(capsys, wide, hostile):
    show.table("", ("file",), [(hostile,)])
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("a\ufffd")
    out.encode()  # a lone surrogate could not be
    assert plain(hostile).startswith("a\ufffd")

    def fails():
        raise UserError(f"{hostile} cannot be read.", "")

    assert guarded(fails) == 2
    assert "a\ufffd" in capsys.readouterr().err


def test_results_of_several_engines_name_them(capsys, wide, tmp_path):
    from store_kit import verdict

    made = [
        Result(id="4", path=tmp_path / "4-0000.png", verdicts=(verdict("Ada"),), engine=e) for e in ("faceid", "lora")
    ]
    show.verdicts(made)
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["engine", "faceid", "lora"]
    show.verdicts(made[:1])
    assert "engine" not in capsys.readouterr().out


# ── progress in a log ────────────────────────────────────────────────────────────────────────────


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def logged(ticks, in_bytes=False):
    """Lines of a log that hears `ticks`: (seconds, stage, done, total)."""
    lines, clock = [], Clock()
    log = progress.Log(lines.append, in_bytes=in_bytes, clock=clock)
    for clock.now, *at in ticks:
        log.tick(*at)
    clock.now += 100
    log.close()
    return lines


def test_one_line_a_stage_with_its_seconds():
    ticks = [
        (0, "photos", 0, 2),
        (1, "photos", 1, 2),
        (2.5, "photos", 2, 2),
        (3, "painting", 0, 1),
        (7, "painting", 1, 1),
    ]
    assert logged(ticks) == ["photos: 2 of 2, 2.5 s", "painting: 1 of 1, 4.0 s"]


def test_the_end_said_twice_is_one_line_and_a_stage_that_comes_again_another():
    ticks = [(0, "a", 0, 1), (1, "a", 1, 1), (1, "a", 1, 1), (5, "a", 0, 1), (7, "a", 1, 1)]
    assert logged(ticks) == ["a: 1 of 1, 1.0 s", "a: 1 of 1, 2.0 s"]


def test_a_long_stage_says_now_and_then_how_far_it_is():
    ticks = [(at, "learning", at, 100) for at in range(0, 101, 10)]
    lines = ["learning: 30 of 100, 30.0 s", "learning: 60 of 100, 60.0 s", "learning: 90 of 100, 90.0 s"]
    assert logged(ticks) == [*lines, "learning: 100 of 100, 100.0 s"]


def test_what_did_not_end_is_told_of_with_the_time_it_was_last_heard_of():
    assert logged([(0, "judging", 0, 2), (3, "judging", 1, 2)]) == ["judging: 1 of 2, 3.0 s"]


def test_downloads_are_told_of_in_megabytes_also_of_unknown_size():
    assert logged([(0, "yunet", 0, 232_589), (2, "yunet", 232_589, 232_589)], True) == ["yunet: 0.2 of 0.2 MB, 2.0 s"]
    assert logged([(0, "clip", 10**6, 0), (2, "clip", 5 * 10**6, 0)], True) == ["clip: 5.0 MB, 2.0 s"]


@pytest.mark.parametrize("shown", [progress.progress, progress.downloads])
def test_without_a_terminal_progress_goes_to_stderr_and_json_stays_silent(monkeypatch, capsys, shown):
    with shown() as tick:
        tick("painting", 1, 1)
    out, err = capsys.readouterr()
    assert (out, err.startswith("painting: ")) == ("", True)
    with shown(quiet=True) as tick:
        tick("painting", 1, 1)
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_brackets_as_they_are(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with progress.progress() as tick:
        tick("family [red].jpg", 1, 2)
    assert "family [red].jpg" in screen.getvalue()
