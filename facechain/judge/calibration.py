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
    min_sharpness: float  # blurrier faces too
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

    @property
    def false_match_rate(self) -> float:
        return self.false_matches / self.different_pairs

    @property
    def basis(self) -> str:
        """What the verdicts rest on, in a sentence."""
        return (
            f"{self.recogniser}: {self.false_matches} false matches in {self.different_pairs} pairs of different "
            f"people ({self.people} people), a rate of {self.false_match_rate_low:.2%} to "
            f"{self.false_match_rate_high:.2%} (exact 95 % interval)."
        )

    def call(self, likeness: float, face_px: float, sharpness: float) -> Call:
        """`sharpness` as in a Verdict; of a face that is too small or too blurred nobody can tell."""
        if face_px < self.min_face_px or sharpness < self.min_sharpness:
            return Call.UNSURE
        if likeness >= self.same:
            return Call.SAME
        return Call.OTHER if likeness < self.other else Call.UNSURE


def read_calibration(folder: Path, recogniser: str) -> Calibration:
    """Raises ConfigError when nobody has calibrated this recogniser yet, or the file contradicts itself."""
    path = folder / f"{recogniser}.toml"
    if not path.is_file():
        raise ConfigError(f"The judge {recogniser} is not calibrated.", "Run scripts/calibrate on labelled folders.")
    read = build(Calibration, read_toml(path), str(path))
    if read.recogniser != recogniser or not -1 <= read.other <= read.same <= 1 or read.different_pairs < 1:
        raise ConfigError(f"{path} is not a calibration of {recogniser}.", "Make it again with scripts/calibrate.")
    return read


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
    min_sharpness: float,
    sources: str,
    limits: str,
    strangers: NDArray[np.float32] | None = None,
    target: float = 1e-3,
) -> Calibration:
    """From labelled embeddings, (photos, D) a person.

    `strangers` (N, D) are faces of N more people, known only to be nobody of `people` (a group picture, say). They
    are compared with the people, not with each other: a verdict always has a good photo on one side.
    `same` is the lowest likeness at which the false-match rate is surely (upper end of the interval) below `target`.
    Where the pairs are too few to say so it lies just above the likest pair of different people, or, if pairs of one
    person all lie higher, half-way. `other` is what one in a hundred different pairs exceeds.
    Raises ConfigError when there are fewer than two people or nobody with two photos.
    """
    names = sorted(people)
    same, different = [], []
    for i, name in enumerate(names):
        own = likeness(people[name], people[name])
        same.append(own[np.triu_indices(len(own), 1)])
        different += [likeness(people[name], people[other]).ravel() for other in names[i + 1 :]]
        if strangers is not None:
            different.append(likeness(people[name], strangers).ravel())
    alike, apart = _joined(same), _joined(different)
    if not len(alike) or not len(apart):
        raise ConfigError("There are too few labelled photos.", "Give two people or more, one of them with two photos.")
    limit = _limit(alike, apart, target)
    matches = int((apart >= limit).sum())
    low, high = interval(matches, len(apart))
    return Calibration(
        recogniser=recogniser,
        same=limit,
        other=min(round(float(np.quantile(apart, 0.99)), 4), limit),
        min_face_px=min_face_px,
        min_sharpness=min_sharpness,
        people=len(names) + (0 if strangers is None else len(strangers)),
        photos=sum(len(rows) for rows in people.values()) + (0 if strangers is None else len(strangers)),
        same_pairs=len(alike),
        different_pairs=len(apart),
        false_matches=matches,
        false_non_matches=int((alike < limit).sum()),
        false_match_rate_low=round(low, 6),
        false_match_rate_high=round(high, 6),
        sources=sources,
        limits=limits,
    )


def _limit(alike: NDArray[np.float32], apart: NDArray[np.float32], target: float) -> float:
    """Four decimals, rounded up so that no pair slips back over it."""
    falling = np.sort(apart)[::-1]
    allowed = 0
    while allowed < len(falling) and interval(allowed, len(falling))[1] <= target:
        allowed += 1
    limit = float(falling[max(0, allowed - 1)])
    if alike.min() > falling[0]:
        limit = max(limit, float(alike.min() + falling[0]) / 2)
    return min(1.0, (np.floor(limit * 1e4) + 1) / 1e4)


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
