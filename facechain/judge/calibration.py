"""Raw likeness into "same person", "unsure" or "someone else", and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facechain.config import build, read_toml
from facechain.errors import ConfigError
from facechain.types import Call


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """configs/calibration/<recogniser>.toml, written by scripts/calibrate."""

    recogniser: str
    same: float  # likeness at or above: the same person
    other: float  # likeness below: someone else; between the two nobody can tell
    min_face_px: float  # smaller faces are always "unsure"
    people: int
    photos: int
    same_pairs: int
    different_pairs: int
    false_matches: int  # different pairs at or above `same`
    false_non_matches: int  # same pairs below `same`
    false_match_rate_low: float  # exact 95 % interval (Clopper and Pearson 1934)
    false_match_rate_high: float
    sources: str
    limits: str

    def call(self, likeness: float, face_px: float) -> Call:
        if face_px < self.min_face_px:
            return Call.UNSURE
        if likeness >= self.same:
            return Call.SAME
        return Call.OTHER if likeness < self.other else Call.UNSURE


def read_calibration(folder: Path, recogniser: str) -> Calibration:
    """Raises ConfigError when nobody has calibrated this recogniser yet."""
    path = folder / f"{recogniser}.toml"
    if not path.is_file():
        raise ConfigError(f"The judge {recogniser} is not calibrated.", "Run scripts/calibrate on labelled folders.")
    return build(Calibration, read_toml(path), str(path))


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 − d²/2 for every pair of rows, (N, D) × (M, D) → (N, M); for unit vectors this is their cosine.

    dlib's vectors are not of unit length and were trained on distance, which this keeps.
    """
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return (1 - np.maximum(squares, 0) / 2).astype(np.float32)


def interval(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a rate (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high


def calibrate(
    people: Mapping[str, NDArray[np.float32]],
    recogniser: str,
    *,
    min_face_px: float,
    sources: str,
    limits: str,
    target: float = 1e-3,
) -> Calibration:
    """From labelled embeddings, (photos, D) a person; photos of one person carry one label.

    `same` is the lowest likeness that at most `target` of different pairs reach; where the pairs part cleanly it
    moves up to the middle of the gap. `other` is what one in a hundred different pairs exceeds.
    Raises ConfigError when there are fewer than two people or nobody with two photos.
    """
    names = sorted(people)
    same, different = [], []
    for i, name in enumerate(names):
        own = likeness(people[name], people[name])
        same.append(own[np.triu_indices(len(own), 1)])
        different += [likeness(people[name], people[other]).ravel() for other in names[i + 1 :]]
    alike, apart = _joined(same), _joined(different)
    if not len(alike) or not len(apart):
        raise ConfigError("There are too few labelled photos.", "Give two people or more, one of them with two photos.")
    apart.sort()
    limit = float(np.nextafter(apart[-1 - int(target * len(apart))], np.float32(2)))
    if alike.min() > apart.max():
        limit = float(alike.min() + apart.max()) / 2
    matches = int((apart >= limit).sum())
    low, high = interval(matches, len(apart))
    return Calibration(
        recogniser=recogniser,
        same=round(limit, 4),
        other=round(min(float(np.quantile(apart, 0.99)), limit), 4),
        min_face_px=min_face_px,
        people=len(names),
        photos=sum(len(rows) for rows in people.values()),
        same_pairs=len(alike),
        different_pairs=len(apart),
        false_matches=matches,
        false_non_matches=int((alike < limit).sum()),
        false_match_rate_low=low,
        false_match_rate_high=high,
        sources=sources,
        limits=limits,
    )


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
