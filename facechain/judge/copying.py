"""Whether a portrait copies the photo it was given, and whether several people were mixed up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facechain.judge.cohort import unit

# This much liker to the given photos than to unseen ones looks like a pasted copy. Between real photos of one person
# the two differ by at most 0.055 (2,400 random splits of the photos of six people).
COPY = 0.06
_EQUAL = 1e-6  # radians

Rows = NDArray[np.float32]


def copy_paste(made: Rows, given: Rows, unseen: Rows) -> float:
    """−1 … 1: 1 is the given photo itself, −1 another photo of the person, 0 in between (MultiID-Bench's M_CP, 2025).

    `made` (1, D), `given` and `unseen` (N, D) vectors of one recogniser; angles instead of cosines, and relative to how
    far two real photos are apart. The mean over all pairs; 0 when two photos are the same.
    """
    to_given, to_unseen = _angles(made, given)[0], _angles(made, unseen)[0]
    apart = _angles(unseen, given)  # (unseen, given)
    numerator = to_unseen[:, None] - to_given[None]
    ratio = np.where(apart < _EQUAL, 0.0, numerator / np.maximum(apart, _EQUAL))
    return float(ratio.mean())


def identity_confusion(similarity: NDArray[np.floating]) -> float:
    """0 … 1, 1 when nobody is mixed up: how much better the best face is than the second (UMO's ID-Conf, 2025).

    `similarity` (people, faces made), of people against everybody in one picture; 1 where there is one face only.
    """
    if similarity.shape[1] < 2:
        return 1.0
    second, first = np.sort(similarity, 1)[:, -2:].T
    gain = np.where(first <= 0, 0.0, (first - second) / np.maximum(first, 1e-9))
    return float(np.minimum(gain, 1.0).mean())


def confusion(made: NDArray[np.floating], real: NDArray[np.floating]) -> tuple[float, float]:
    """Drift and blend of a picture of several people (MultiBind, 2025).

    `made` (P, P) is the similarity of each person's face in the picture to each person, `real` that of their photos
    among each other. Drift: how much less like themselves people are than their photos (positive is worse); blend: how
    much more like one another (positive is worse; faces changed places or were mixed).
    """
    change = made - real
    own = np.eye(len(change), dtype=bool)
    return -float(change[own].mean()), float(change[~own].mean()) if len(change) > 1 else 0.0


def _angles(a: Rows, b: Rows) -> NDArray[np.floating]:
    return np.arccos(np.clip(unit(a).astype(np.float64) @ unit(b).T.astype(np.float64), -1.0, 1.0))
