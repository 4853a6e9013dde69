"""Thresholds, the evidence they rest on, and the committed calibration."""

import dataclasses
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from facechain.errors import ConfigError
from facechain.judge.calibration import calibrate, interval, likeness, read_calibration
from facechain.types import Call
from facechain.vision.readers import READERS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "configs" / "calibration"
ABOUT = {"min_face_px": 40.0, "min_sharpness": 5.0, "sources": "made up", "limits": "made up"}


def around(*centres: float, spread: float = 0.0, count: int = 3) -> dict[str, np.ndarray]:
    """People as points on the unit circle, `count` photos each, `spread` radians apart."""
    people = {}
    for number, centre in enumerate(centres):
        angles = centre + spread * np.arange(count)
        people[f"person {number}"] = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    return people


# ── likeness ─────────────────────────────────────────────────────────────────────────────────────


def test_likeness_of_unit_vectors_is_their_cosine():
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(likeness(rows[:2], rows), rows[:2] @ rows.T, atol=1e-6)


def test_likeness_falls_with_distance_whatever_the_length():
    one, near, far = (np.array([[x, 1.4]], np.float32) for x in (0.0, 0.6, 0.7))
    assert likeness(one, one)[0, 0] == 1
    assert likeness(one, near)[0, 0] == pytest.approx(1 - 0.36 / 2)
    assert likeness(one, near) > likeness(one, far)


# ── interval ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # Tabulated values of the exact 95 % interval.
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (1, 100, 0.0003, 0.0545)],
)
def test_interval_known_values(hits, trials, low, high):
    assert interval(hits, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.data())
def test_interval_ends_are_where_the_tails_hold_a_fortieth(data):
    trials = data.draw(st.integers(1, 5000))
    hits = data.draw(st.integers(0, trials))
    low, high = interval(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    if hits:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(0.025, rel=1e-3)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(0.025, rel=1e-3)


# ── calibrate ────────────────────────────────────────────────────────────────────────────────────


def test_people_far_apart_are_parted_half_way():
    made = calibrate(around(0.0, 1.0, 2.0, spread=0.05), "test", **ABOUT)
    assert made.people == 3
    assert made.photos == 9
    assert made.same_pairs == 9
    assert made.different_pairs == 27
    assert made.false_matches == made.false_non_matches == 0
    assert made.same == pytest.approx((np.cos(0.1) + np.cos(0.9)) / 2, abs=2e-4)
    assert (made.false_match_rate_low, made.false_match_rate_high) == pytest.approx(interval(0, 27), abs=1e-6)


def test_too_few_pairs_to_prove_the_target_let_no_different_pair_through():
    people = around(0.0, 0.2, spread=0.15)  # overlapping: some strangers are liker than some photos of one person
    made = calibrate(people, "test", **ABOUT)
    apart = likeness(people["person 0"], people["person 1"])
    assert made.same > apart.max()
    assert made.false_matches == 0
    assert made.false_non_matches > 0


def test_with_many_pairs_the_upper_end_of_the_rate_stays_below_the_target():
    rng = np.random.default_rng(1)
    people = {}
    for name in range(30):
        rows = rng.normal(size=32) + 0.9 * rng.normal(size=(6, 32))
        people[str(name)] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    made = calibrate(people, "test", target=0.01, **ABOUT)
    assert made.false_matches > 0
    assert made.false_match_rate_high <= 0.01
    looser = interval(made.false_matches + 1, made.different_pairs)[1]
    assert looser > 0.01  # the lowest such likeness, not just any


def test_strangers_are_compared_with_people_but_not_with_each_other():
    strangers = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], np.float32)  # equal, and yet not one person
    made = calibrate(around(0.0, 0.5, spread=0.01, count=2), "test", strangers=strangers, **ABOUT)
    assert made.different_pairs == 4 + 4 * 3
    assert made.people == 5
    assert made.false_matches == 0


@pytest.mark.parametrize("people", [around(0.0), around(0.0, 1.0, count=1), {}])
def test_too_few_labels_are_refused(people):
    with pytest.raises(ConfigError, match="too few"):
        calibrate(people, "test", **ABOUT)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_liker_is_never_called_less(a, b):
    made = calibrate(around(0.0, 0.2, spread=0.15), "test", **ABOUT)
    order = [Call.OTHER, Call.UNSURE, Call.SAME]
    low, high = sorted((a, b))
    assert order.index(made.call(low, 100, 100)) <= order.index(made.call(high, 100, 100))


def test_small_or_blurred_faces_are_unsure_whatever_the_likeness():
    made = calibrate(around(0.0, 1.0), "test", **ABOUT)
    assert made.call(1.0, 40, 5) is made.call(made.same, 40, 5) is Call.SAME
    assert made.call(made.other, 40, 5) is Call.UNSURE
    assert made.call(-1.0, 40, 5) is Call.OTHER
    for face_px, sharpness in ((39, 5), (40, 4.9)):
        assert made.call(1.0, face_px, sharpness) is Call.UNSURE
        assert made.call(-1.0, face_px, sharpness) is Call.UNSURE


# ── files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_committed_calibration_is_whole(path):
    read = read_calibration(FOLDER, path.stem)
    assert -1 < read.other < read.same < 1
    assert read.false_match_rate_low <= read.false_match_rate <= read.false_match_rate_high < 0.01
    assert (read.false_match_rate_low, read.false_match_rate_high) == pytest.approx(
        interval(read.false_matches, read.different_pairs), abs=1e-6
    )
    assert read.people >= 5
    assert read.false_non_matches <= read.same_pairs * 0.05
    assert len(read.sources) > 40
    assert len(read.limits) > 40
    assert str(read.different_pairs) in read.basis


def test_the_judge_is_calibrated(models):
    judge = READERS["dlib"](lambda pack, file: models / pack / file)
    assert read_calibration(FOLDER, judge.recogniser).recogniser == judge.recogniser


def test_a_recogniser_nobody_measured_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not calibrated"):
        read_calibration(tmp_path, "unheard_of")


@pytest.mark.parametrize("change", [("same", "0.1"), ("recogniser", '"another"'), ("different_pairs", "0")])
def test_a_file_that_contradicts_itself_is_refused(tmp_path, change):
    lines = (FOLDER / "dlib_resnet_v1.toml").read_text("utf-8").splitlines()
    changed = [f"{change[0]} = {change[1]}" if line.startswith(f"{change[0]} =") else line for line in lines]
    (tmp_path / "dlib_resnet_v1.toml").write_text("\n".join(changed), "utf-8")
    with pytest.raises(ConfigError, match="not a calibration"):
        read_calibration(tmp_path, "dlib_resnet_v1")


def test_the_script_measures_any_labelled_folders(models, tmp_path, monkeypatch, capsys):
    for name in ("John_Salley", "John_Simm"):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        for photo in sorted((models / "johns" / name).glob("*.jpg"))[:3]:
            shutil.copy(photo, tmp_path / "labelled" / name)
    first = next((tmp_path / "labelled" / "John_Simm").iterdir())
    shutil.copy(first, first.with_name("again.jpg"))
    first.with_name("notes.txt").write_text("not a picture")
    monkeypatch.setenv("FACECHAIN_MODELS", str(models))
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(
        sys, "argv", ["calibrate", str(tmp_path / "labelled"), "--sources", "two men", "--out", str(out)]
    )
    runpy.run_path(str(ROOT / "scripts" / "calibrate"), run_name="__main__")
    made = read_calibration(out, "dlib_resnet_v1")
    assert dataclasses.replace(made, same=0, other=0) == dataclasses.replace(
        made, same=0, other=0, people=2, photos=6, same_pairs=6, different_pairs=9, false_matches=0, sources="two men"
    )
    said = capsys.readouterr().out
    assert "seen before" in said
    assert "notes.txt" in said
