"""Strangers to compare with: how much a likeness says depends on how like that face is to people at large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facechain.errors import ConfigError

Rows = NDArray[np.floating]  # (N, D)

RANK = 5  # directions in which the cohort differs most: age, sex and region more than identity
NEAREST = 0.1  # share of the cohort, nearest to a face, that its scores are normalised by
SAME_PICTURE = 0.985  # cosine above which a member of the cohort is the very photo looked at


class _Space(NamedTuple):
    mean: Rows  # (D,)
    nuisance: Rows  # (RANK, D) orthonormal
    members: Rows  # (N, D) projected
    bars: Rows  # (N,) of each member among the others
    typical: float  # median, over the members, of the mean likeness to their nearest others


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """A recogniser's vectors of people who are nobody's enrolled, and of faces too poor to recognise.

    Scores are normalised by the symmetric adaptive scheme (AS-norm; Matejka et al. 2017): from the cosine of two faces
    the mean cosines of each to the nearest of the cohort are taken, half and half. Two changes keep it honest on a
    cohort of a hundred: the spread is pooled, into the weight the fusion gives the recogniser, and a face that is like
    nobody in the cohort gets no credit for it, for it may only be of another kind than the cohort's. Before, the
    directions in which the cohort varies most are projected out (nuisance attribute projection, Solomonoff et al.
    2005).
    """

    recogniser: str
    vectors: Rows  # (N, D)
    unrecognisable: Rows  # (D,) mean direction of strongly degraded faces
    clear: float  # cosine to it of the clear face in the middle, which is 1 in recognisability
    lost: float  # of the degraded face in the middle, which is 0
    rank: int = RANK  # directions projected out; 0: none, and nothing is centred

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def _space(self) -> _Space:
        rows = unit(self.vectors)
        mean = rows.mean(0)
        nuisance = np.linalg.svd(rows - mean, full_matrices=False)[2][: self.rank]
        if not self.rank:
            mean = np.zeros_like(mean)
        members = _projected(rows, mean, nuisance)
        among = members @ members.T
        np.fill_diagonal(among, -1.0)
        bars = self._nearest(among)
        typical = float(np.median(bars))
        return _Space(mean, nuisance, members, np.maximum(bars, typical), typical)

    @cached_property
    def views(self) -> tuple[Cohort, Cohort]:
        """The cohort as it is, and with vectors as they come, for faces of a kind the cohort has none of."""
        return self, replace(self, rank=0)

    def project(self, rows: Rows) -> Rows:
        """(M, D) raw vectors to unit vectors without what merely tells kinds of people apart."""
        return _projected(unit(rows), self._space.mean, self._space.nuisance)

    def template(self, rows: Rows) -> Rows:
        """(D,) one projected unit vector for several photos of one person."""
        return unit(self.project(rows).mean(0))

    def bar(self, projected: Rows) -> Rows:
        """(M,) mean cosine to the nearest of the cohort, and at least what is typical in it."""
        return np.maximum(self._nearest(projected @ self._space.members.T), self._space.typical)

    def to_members(self, projected: Rows) -> Rows:
        """(M, N) normalised scores to each of the cohort."""
        likeness = projected @ self._space.members.T
        return likeness - (self.bar(projected)[:, None] + self._space.bars[None]) / 2

    def normalised(self, a: Rows, b: Rows) -> Rows:
        """(M, D) × (K, D) projected → (M, K) normalised scores."""
        return a @ b.T - (self.bar(a)[:, None] + self.bar(b)[None]) / 2

    def strangers_to(self, photos: Rows) -> NDArray[np.bool_]:
        """(N,) False for members who are in these very photos, as when somebody enrols a picture of the cohort."""
        return np.asarray((unit(photos) @ unit(self.vectors).T < SAME_PICTURE).all(0))

    def subset(self, members: NDArray[np.bool_] | Sequence[int] | NDArray[np.int64]) -> Cohort:
        return replace(self, vectors=self.vectors[np.asarray(members)])

    def recognisability(self, rows: Rows) -> Rows:
        """(M,) 0 … 1: how far each face is from those nobody could recognise (Deng et al. 2023)."""
        cosine = unit(rows) @ self.unrecognisable
        return np.clip((self.lost - cosine) / (self.lost - self.clear), 0, 1)

    def _nearest(self, likeness: Rows) -> Rows:
        count = max(1, round(NEAREST * len(self.vectors)))
        return np.sort(likeness, 1)[:, -count:].mean(1)

    def save(self, path: Path) -> None:
        """Half precision: a vector keeps its cosines to 0.001."""
        np.savez_compressed(
            path,
            vectors=self.vectors.astype(np.float16),
            unrecognisable=self.unrecognisable.astype(np.float16),
            recognisability=np.array([self.clear, self.lost], np.float32),
        )


def make_cohort(recogniser: str, vectors: Rows, degraded: Rows) -> Cohort:
    """From one photo of each of N people, (N, D), and any number of faces shrunk past recognition, (M, D)."""
    clear, poor = unit(vectors), unit(degraded)
    far = unit(poor.mean(0))
    return Cohort(
        recogniser=recogniser,
        vectors=vectors,
        unrecognisable=far,
        clear=float(np.median(clear @ far)),
        lost=float(np.median(poor @ far)),
    )


def read_cohort(path: Path) -> Cohort:
    """Of the recogniser the file is named for. Raises ConfigError when it is missing or something else."""
    try:
        with np.load(path) as file:
            vectors, far = file["vectors"].astype(np.float32), file["unrecognisable"].astype(np.float32)
            clear, lost = map(float, file["recognisability"])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is not a cohort.", "Make it again with scripts/calibrate.") from error
    if vectors.ndim != 2 or far.shape != vectors.shape[1:] or len(vectors) < 2 * RANK or not clear < lost:
        raise ConfigError(f"{path} is not a cohort of {2 * RANK} people or more.", "Make it with scripts/calibrate.")
    return Cohort(recogniser=path.stem, vectors=vectors, unrecognisable=unit(far), clear=clear, lost=lost)


def unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9), np.float32)


def _projected(rows: Rows, mean: Rows, nuisance: Rows) -> Rows:
    centred = rows - mean
    return unit(centred - centred @ nuisance.T @ nuisance)
