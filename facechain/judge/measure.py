"""How good the judge is, out of fold: who is measured was used neither for the cohort nor for the fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from facechain.judge.calibration import interval
from facechain.judge.cohort import Cohort
from facechain.judge.fusion import Fusion, Rate, combined, fit

FOLDS = 10
OTHER = 0.0  # log-likelihood ratio below which different people are the likelier explanation
Ints = NDArray[np.int64]
Rows = NDArray[np.floating]
Fit: TypeAlias = tuple[tuple[Rows, float], tuple[Rows, float]]  # weights and bias, projected and plain


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Vectors to calibrate on: one photo of each of N people, and M portraits made from those photos."""

    cohorts: Mapping[str, Cohort]  # recogniser → all N people
    portraits: Mapping[str, NDArray[np.float32]]  # recogniser → (M, D)
    owners: Ints  # (M,) whom each portrait shows
    groups: Sequence[str]  # (N,) used to audit only

    @property
    def people(self) -> int:
        return len(self.groups)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Scores of many pairs: whom it shows, or whose photo it is, against whose photo."""

    portrait: Ints  # (P,) −1 between photos
    a: Ints
    b: Ints
    scores: Rows  # (P, 2 · recognisers) normalised, the plain ones last
    to_cohort: Rows  # (2, P, C, 2 · recognisers) of either side to each of the cohort


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Out-of-fold log-likelihood ratios, and `nearest`, that of the cohort nearest to either side."""

    photos: NDArray[np.void]  # different people, photo to photo
    impostors: NDArray[np.void]  # a portrait against somebody else's photo
    genuine: NDArray[np.void]  # a portrait against the photo it was made from


_ROW = np.dtype(
    [("portrait", np.int64), ("a", np.int64), ("b", np.int64), ("llr", np.float64), ("nearest", np.float64)]
)


def measure(material: Material, recognisers: Sequence[str], seed: int = 0) -> tuple[Measured, Fit]:
    """Over all pairs of ten folds: two are tested, of the rest five eighths are the cohort and three the fit.

    Also the weights and bias fitted on everything that was scored for fitting, none of it by a cohort with the people
    scored: those are to be used.
    """
    found: dict[str, list] = {"photos": [], "impostors": [], "genuine": []}
    fitted: tuple[list[Rows], list[Rows]] = ([], [])
    for members, fitting, tested, fold in _splits(material.people, seed):
        view = _View(material, recognisers, members)
        same, apart = _both(view, fitting)
        for kept, new in zip(fitted, (same, apart), strict=True):
            kept.append(new)
        found_here = _fit(same, apart)
        across = lambda pairs, fold=fold: fold[pairs.a] != fold[pairs.b]  # noqa: E731 - once over all splits
        found["photos"].append(_rows(view.photos(tested), found_here, across))
        found["impostors"].append(_rows(view.impostors(tested), found_here, across))
        found["genuine"].append(_rows(view.genuine(tested), found_here))
    measured = Measured(**{name: np.concatenate(rows) for name, rows in found.items()})
    return measured, _fit(np.concatenate(fitted[0]), np.concatenate(fitted[1]))


def fusion(material: Material, recognisers: Sequence[str], target: float, seed: int = 0) -> tuple[Fusion, Measured]:
    """`target` is the false-match rate between photos, out of fold, that `same` is set for."""
    measured, found = measure(material, recognisers, seed)
    photos = measured.photos
    falling = np.sort(photos["llr"][photos["llr"] > photos["nearest"]])[::-1]
    allowed = int(target * len(photos))
    same = float(np.ceil(falling[min(allowed, len(falling) - 1)] * 100 + 1) / 100)
    passed = is_same(photos, same)
    low, high = interval(int(passed.sum()), len(passed))
    made = Fusion(
        recognisers=tuple(recognisers),
        weights=_rounded(found[0][0]),
        bias=round(found[0][1], 3),
        plain_weights=_rounded(found[1][0]),
        plain_bias=round(found[1][1], 3),
        same=max(same, OTHER),
        other=OTHER,
        pairs=len(passed),
        false_matches=int(passed.sum()),
        false_match_rate_low=round(low, 6),
        false_match_rate_high=round(high, 6),
        genuine=len(measured.genuine),
        false_non_matches=int((~is_same(measured.genuine, same)).sum()),
        groups=tuple(rates(material.groups, photos, passed)),
    )
    return made, measured


def is_same(rows: NDArray[np.void], same: float) -> NDArray[np.bool_]:
    """(P,) called the same person."""
    return (rows["llr"] >= same) & (rows["llr"] > rows["nearest"])


def rates(groups: Sequence[str], rows: NDArray[np.void], passed: NDArray[np.bool_]) -> Iterator[Rate]:
    """False matches within each group: people of one kind are the ones mixed up."""
    named = np.array(groups)
    for group in sorted(set(groups)):
        people = int((named == group).sum())
        within = (named[rows["a"]] == group) & (named[rows["b"]] == group)
        if pairs := int(within.sum()):
            hits = int(passed[within].sum())
            low, high = interval(hits, pairs)
            yield Rate(
                group=group, people=people, pairs=pairs, false_matches=hits, low=round(low, 6), high=round(high, 6)
            )


def _splits(people: int, seed: int) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
    """Cohort, people to fit on, people to test, and everybody's fold."""
    rng = np.random.default_rng(seed)
    fold = np.empty(people, np.int64)
    fold[rng.permutation(people)] = np.arange(people) % FOLDS
    for first, second in combinations(range(FOLDS), 2):
        tested = np.isin(fold, (first, second))
        rest = rng.permutation(np.nonzero(~tested)[0])
        at = round(len(rest) * 5 / 8)
        yield rest[:at], rest[at:], np.nonzero(tested)[0], fold


class _View:
    """Everybody and every portrait as a part of the people, as cohort, makes them seem."""

    def __init__(self, material: Material, recognisers: Sequence[str], members: Ints) -> None:
        self._owners = material.owners
        views = [material.cohorts[name].subset(members).views for name in recognisers]
        each = [
            (cohort, cohort.project(material.cohorts[name].vectors), cohort.project(material.portraits[name]))
            for view in range(2)
            for name, cohort in zip(recognisers, (both[view] for both in views), strict=True)
        ]
        self._photos = np.stack([cohort.normalised(rows, rows) for cohort, rows, _ in each], -1)
        self._made = np.stack([cohort.normalised(rows, photos) for cohort, photos, rows in each], -1)
        self._photos_to = np.stack([cohort.to_members(rows) for cohort, rows, _ in each], -1)
        self._made_to = np.stack([cohort.to_members(rows) for cohort, _, rows in each], -1)

    def photos(self, people: Ints) -> Pairs:
        first, second = np.triu_indices(len(people), 1)
        a, b = people[first], people[second]
        return Pairs(
            portrait=np.full(len(a), -1),
            a=a,
            b=b,
            scores=self._photos[a, b],
            to_cohort=np.stack([self._photos_to[a], self._photos_to[b]]),
        )

    def genuine(self, people: Ints) -> Pairs:
        made = np.nonzero(np.isin(self._owners, people))[0]
        return self._compared(made, self._owners[made])

    def impostors(self, people: Ints) -> Pairs:
        made = np.nonzero(np.isin(self._owners, people))[0]
        which, whom = (grid.ravel() for grid in np.meshgrid(made, people, indexing="ij"))
        wrong = self._owners[which] != whom
        return self._compared(which[wrong], whom[wrong])

    def _compared(self, made: Ints, whom: Ints) -> Pairs:
        return Pairs(
            portrait=made,
            a=self._owners[made],
            b=whom,
            scores=self._made[made, whom],
            to_cohort=np.stack([self._made_to[made], self._photos_to[whom]]),
        )


def _both(view: _View, people: Ints) -> tuple[Rows, Rows]:
    """Scores of the same and of different people."""
    return view.genuine(people).scores, np.vstack([view.photos(people).scores, view.impostors(people).scores])


def _fit(same: Rows, apart: Rows) -> Fit:
    halves = zip(np.split(same, 2, -1), np.split(apart, 2, -1), strict=True)
    projected, plain = (fit(*half) for half in halves)
    return projected, plain


def _rounded(weights: Rows) -> tuple[float, ...]:
    return tuple(round(float(weight), 3) for weight in weights)


def _rows(pairs: Pairs, found: Fit, keep=None) -> NDArray[np.void]:
    llr = combined(pairs.scores, *found)
    nearest = combined(pairs.to_cohort, *found).max((0, 2))
    rows = np.empty(len(llr), _ROW)
    rows["portrait"] = pairs.portrait
    rows["a"], rows["b"], rows["llr"], rows["nearest"] = pairs.a, pairs.b, llr, nearest
    return rows if keep is None else rows[keep(pairs)]
