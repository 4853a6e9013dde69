"""What the judge's verdicts rest on: configs/calibration, read and checked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facechain.config import build, read_toml
from facechain.errors import ConfigError, EngineError
from facechain.judge.cohort import Cohort, read_cohort
from facechain.judge.fusion import Fusion

FILE = "judge.toml"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """configs/calibration, written by scripts/calibrate: judge.toml, and a cohort for each recogniser."""

    people: int
    sources: str
    limits: str
    fusions: tuple[Fusion, ...]  # one for every set of recognisers that may have to judge alone
    cohorts: dict[str, Cohort] = field(default_factory=dict)

    def fusion(self, recognisers: Collection[str]) -> Fusion:
        """Of exactly these. Raises EngineError when there is none."""
        found = next((each for each in self.fusions if set(each.recognisers) == set(recognisers)), None)
        if found is None:
            named = " and ".join(sorted(recognisers)) or "no recogniser"
            raise EngineError(f"The judge is not calibrated for {named}.", "Run scripts/calibrate.")
        return found


def read_calibration(folder: Path) -> Calibration:
    """Raises ConfigError when nobody has calibrated a judge yet, or the files contradict themselves."""
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"There is no {path}.", "Run scripts/calibrate.")
    values = read_toml(path)
    cohorts = {file.stem: read_cohort(file) for file in sorted(folder.glob("*.npz"))}
    listed = values.pop("fusions", [])
    fusions = tuple(build(Fusion, _with_tuples(each), f"{FILE}: fusions[{at}]") for at, each in enumerate(listed))
    made = build(Calibration, {**values, "fusions": [], "cohorts": {}}, FILE)
    made = Calibration(people=made.people, sources=made.sources, limits=made.limits, fusions=fusions, cohorts=cohorts)
    _check(made, path)
    return made


def _with_tuples(values: dict) -> dict:
    return {**values, "groups": [dict(each) for each in values.get("groups", [])]}


def _check(made: Calibration, path: Path) -> None:
    sizes = {len(cohort) for cohort in made.cohorts.values()}
    whole = bool(made.fusions) and sizes <= {made.people}
    for fusion in made.fusions:
        count = len(fusion.recognisers)
        whole &= count == len(set(fusion.recognisers)) == len(fusion.weights) == len(fusion.plain_weights) > 0
        whole &= set(fusion.recognisers) <= made.cohorts.keys() and fusion.other <= fusion.same and fusion.pairs > 0
        whole &= min((*fusion.weights, *fusion.plain_weights), default=-1) >= 0
    if not whole:
        raise ConfigError(f"{path} contradicts itself or the cohorts beside it.", "Make them with scripts/calibrate.")


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
