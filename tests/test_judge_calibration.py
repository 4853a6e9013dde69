"""Cohorts, fusion and the evidence they rest on; the committed calibration is whole and holds its promises."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from facechain.errors import ConfigError, EngineError
from facechain.judge.calibration import interval, likeness, read_calibration
from facechain.judge.cohort import Cohort, make_cohort, read_cohort, unit
from facechain.judge.fusion import Fusion, fit
from facechain.judge.measure import Material, fusion, is_same, measure

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "calibration"


# ── likeness and intervals ───────────────────────────────────────────────────────────────────────


def test_likeness_of_unit_vectors_is_their_cosine():
    rows = unit(np.random.default_rng(0).normal(size=(5, 8)))
    np.testing.assert_allclose(likeness(rows[:2], rows), rows[:2] @ rows.T, atol=1e-6)


def test_likeness_falls_with_distance_whatever_the_length():
    one, near, far = (np.array([[x, 1.4]], np.float32) for x in (0.0, 0.6, 0.7))
    assert likeness(one, near)[0, 0] == pytest.approx(1 - 0.36 / 2)
    assert likeness(one, near) > likeness(one, far)


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
    if hits:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(0.025, rel=1e-3)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(0.025, rel=1e-3)


# ── cohorts ──────────────────────────────────────────────────────────────────────────────────────


def crowd(people: int = 60, dense: int = 20, seed: int = 0) -> np.ndarray:
    """Random people, the first `dense` of whom are much alike."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(people, 32))
    rows[:dense] = rng.normal(size=32) * 1.5 + rows[:dense] * 0.7
    return unit(rows)


def cohort(vectors: np.ndarray) -> Cohort:
    return make_cohort("test", vectors, vectors.mean(0) + np.eye(vectors.shape[1], dtype=np.float32)[:2] * 3)


def test_people_among_many_look_alikes_need_a_higher_cosine():
    strangers = cohort(crowd())
    faces = strangers.project(crowd(seed=1))
    among, apart = strangers.bar(strangers.project(strangers.vectors[:5])), strangers.bar(faces[40:])
    assert among.min() > apart.max()
    np.testing.assert_allclose(strangers.normalised(faces, faces), strangers.normalised(faces, faces).T, atol=1e-6)


def test_being_like_nobody_in_the_cohort_earns_nothing():
    strangers = cohort(crowd())
    bars = strangers.bar(strangers.project(np.random.default_rng(5).normal(size=(40, 32))))
    assert bars.min() == bars[np.argsort(bars)[8]] >= strangers._space.typical > 0


def test_a_member_of_the_cohort_is_no_stranger_to_their_own_photo():
    strangers = cohort(crowd())
    assert np.nonzero(~strangers.strangers_to(strangers.vectors[[3, 7]]))[0].tolist() == [3, 7]


def test_recognisability_falls_towards_the_unrecognisable():
    strangers = cohort(crowd())
    face = unit(strangers.vectors[30:31])
    toward = [unit(face + strangers.unrecognisable * t) for t in (-1.0, 0.0, 0.2, 9.0)]
    values = [float(strangers.recognisability(rows)[0]) for rows in toward]
    assert values == sorted(values, reverse=True)
    assert (values[0], values[-1]) == (1.0, pytest.approx(0.0, abs=0.2))


def test_a_cohort_is_read_as_it_was_saved(tmp_path):
    made = cohort(crowd())
    made.save(tmp_path / "test.npz")
    read = read_cohort(tmp_path / "test.npz")
    assert read.recogniser == "test"
    np.testing.assert_allclose(read.vectors, made.vectors, atol=1e-3)
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="not a cohort"):
        read_cohort(tmp_path / "broken.npz")


# ── fusion ───────────────────────────────────────────────────────────────────────────────────────


def test_what_carries_no_information_gets_no_weight_and_ratios_are_calibrated():
    rng = np.random.default_rng(0)
    genuine = np.stack([rng.normal(2, 1, 4000), rng.normal(0, 1, 4000)], 1)
    impostor = np.stack([rng.normal(0, 1, 40000), rng.normal(0, 1, 40000)], 1)
    weights, bias = fit(genuine, impostor)
    assert weights == pytest.approx([2.0, 0.0], abs=0.1)  # log of N(x; 2, 1) / N(x; 0, 1) is 2x - 2
    assert bias == pytest.approx(-2.0, abs=0.15)
    assert (fit(-genuine, -impostor)[0] >= 0).all(), "more alike is never taken for less"


def material(gap: float = 0.35, people: int = 60) -> Material:
    """Everybody's photo and two portraits of it by two recognisers, `gap` of noise away."""
    rng, photos = np.random.default_rng(2), [crowd(people, seed=seed) for seed in (3, 4)]
    owners = np.repeat(np.arange(people), 2)
    made = [unit(rows[owners] + gap * rng.normal(size=(len(owners), rows.shape[1]))) for rows in photos]
    names = ("one", "two")
    cohorts = {
        name: dataclasses.replace(cohort(rows), recogniser=name) for name, rows in zip(names, photos, strict=True)
    }
    groups = ["alike"] * 20 + ["others"] * (people - 20)
    return Material(cohorts=cohorts, portraits=dict(zip(names, made, strict=True)), owners=owners, groups=groups)


def test_two_recognisers_together_miss_fewer_than_either():
    given = material()
    found = {names: fusion(given, names, 0.003)[0] for names in (("one",), ("two",), ("one", "two"))}
    both = found[("one", "two")]
    assert both.false_match_rate <= 0.003
    assert both.false_non_matches < min(found[("one",)].false_non_matches, found[("two",)].false_non_matches)
    assert sum(rate.people for rate in both.groups) == 60


def test_every_pair_across_folds_is_measured_once_and_every_portrait():
    measured, _ = measure(material(), ("one",))
    pairs = [tuple(sorted((int(row["a"]), int(row["b"])))) for row in measured.photos]
    assert len(pairs) == len(set(pairs)) == 60 * 59 // 2 - 10 * 15
    assert set(measured.genuine["portrait"]) == set(range(120))
    assert (measured.genuine["a"] == measured.genuine["b"]).all()
    assert (measured.impostors["a"] != measured.impostors["b"]).all()


def test_a_stranger_as_close_makes_nobody_the_same_person():
    rows = np.array([(0, 0, 1, 9.0, 3.0), (0, 0, 1, 9.0, 9.5)], measure(material(), ("one",))[0].photos.dtype)
    assert is_same(rows, 5.0).tolist() == [True, False]


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_the_committed_calibration_is_whole_and_states_what_it_reached():
    read = read_calibration(FOLDER)
    assert {"dlib_resnet_v1", "sface_2021dec"} <= read.cohorts.keys()
    for made in read.fusions:
        assert (made.false_match_rate_low, made.false_match_rate_high) == pytest.approx(
            interval(made.false_matches, made.pairs), abs=1e-6
        )
        assert made.false_match_rate <= 0.003
        assert str(made.false_matches) in made.basis
    assert read.fusion(["sface_2021dec", "dlib_resnet_v1"]).false_non_matches <= 0.05 * read.fusions[0].genuine


def test_a_set_nobody_measured_is_refused():
    with pytest.raises(EngineError, match="not calibrated for unheard_of"):
        read_calibration(FOLDER).fusion(["unheard_of"])


@pytest.mark.parametrize(
    "change", ["people = 7", "same = -99.0", 'recognisers = ["unheard_of"]', "weights = [-1.0]", "pairs = 0"]
)
def test_files_that_contradict_themselves_are_refused(tmp_path, change):
    for path in FOLDER.glob("*.npz"):
        (tmp_path / path.name).symlink_to(path)
    key = change.split(" =")[0]
    lines = (FOLDER / "judge.toml").read_text("utf-8").splitlines()
    changed = [change if line.startswith(f"{key} =") else line for line in lines]
    (tmp_path / "judge.toml").write_text("\n".join(changed), "utf-8")
    with pytest.raises(ConfigError, match="contradicts itself"):
        read_calibration(tmp_path)


def test_a_folder_without_calibration_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match=r"judge\.toml"):
        read_calibration(tmp_path)


def test_llr_is_the_smaller_of_two_weighted_sums():
    made = Fusion(
        recognisers=("a", "b"),
        weights=(2.0, 3.0),
        bias=-1.0,
        plain_weights=(1.0, 1.0),
        plain_bias=0.0,
        same=3.0,
        other=0.0,
        pairs=1,
        false_matches=0,
        false_match_rate_low=0.0,
        false_match_rate_high=1.0,
        genuine=1,
        false_non_matches=0,
    )
    assert made.llr([[1.0, 1.0, 5.0, 5.0], [0.0, 0.0, 9.0, 9.0], [9.0, 9.0, -2.0, -2.0]]) == pytest.approx(
        [4.0, -1.0, -1.0]
    )
