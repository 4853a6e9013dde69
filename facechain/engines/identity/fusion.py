"""Several photos of one face become one vector: those that disagree with the rest are left out, the rest averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facechain.errors import EngineError
from facechain.types import Embedding

SPREADS = 3.0  # how many robust spreads below the middle a photo may agree
FLOOR = 0.1  # and never left out for less than this much cosine below it


@dataclass(frozen=True, kw_only=True, eq=False)
class Fused:
    embedding: Embedding
    kept: tuple[int, ...]  # indices of the photos that were averaged


def fuse(embeddings: Sequence[Embedding], weights: Sequence[float] | None = None) -> Fused:
    """The weighted mean direction of the embeddings that agree, at the weighted mean length.

    `weights` are non-negative, e.g. photo qualities. A photo is left out when its cosine to the mean of the others
    lies more than three robust spreads (1.48 × median deviation) and 0.1 below the median; with fewer than four
    photos nobody can say who is wrong, so all stay. Raises EngineError for none, or for vectors of two recognisers.
    """
    if not embeddings:
        raise EngineError("There is no face to learn from.", "Add a photo with one clear face.")
    first = embeddings[0]
    if any((e.recogniser, e.unit_norm) != (first.recogniser, first.unit_norm) for e in embeddings):
        raise EngineError("Faces read by different recognisers cannot be averaged.", "Read all with one reader.")
    vectors = np.stack([e.vector for e in embeddings]).astype(np.float64)
    weight = np.ones(len(vectors)) if weights is None else np.asarray(weights, np.float64)
    if weight.min() < 0 or weight.sum() <= 0:  # qualities that say nothing
        weight = np.ones(len(vectors))
    lengths = np.linalg.norm(vectors, axis=1)
    units = vectors / lengths[:, None]
    kept = np.flatnonzero(_agrees(units, weight))
    if weight[kept].sum() <= 0:
        weight = np.ones(len(vectors))
    share = weight[kept] / weight[kept].sum()
    mean = share @ units[kept]
    mean *= (1.0 if first.unit_norm else share @ lengths[kept]) / np.linalg.norm(mean)
    fused = Embedding(vector=mean.astype(np.float32), recogniser=first.recogniser, unit_norm=first.unit_norm)
    return Fused(embedding=fused, kept=tuple(int(i) for i in kept))


def _agrees(units: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.bool_]:
    if len(units) < 4:
        return np.ones(len(units), bool)
    others = (weight[:, None] * units).sum(axis=0) - weight[:, None] * units
    agreement = (units * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-12)
    middle = np.median(agreement)
    spread = 1.4826 * np.median(np.abs(agreement - middle))
    return agreement >= middle - max(SPREADS * spread, FLOOR)
