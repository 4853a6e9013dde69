"""Several recognisers' normalised scores as one log-likelihood ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.floating]

PRIOR = 0.05  # of a genuine pair, as the weights are fitted: it decides where on the scale the fit is closest
RIDGE = 1e-5
ALLOWANCE = 3.0  # how far the plain log-likelihood ratio may lie below the projected one


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often different people were taken for one, out of fold."""

    group: str
    people: int
    pairs: int
    false_matches: int
    low: float  # exact 95 % interval (Clopper and Pearson 1934)
    high: float


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """What a set of recognisers says together: llr = bias + Σ weight · normalised score.

    It is said twice, of projected vectors and of vectors as they come (`plain`). The projection parts look-alikes of
    the cohort's kinds and is blind to differences between kinds; so the smaller one counts, `ALLOWANCE` given.
    `same` and `other` are log-likelihood ratios: at or above the one it is the same person, below the other someone
    else. Everything from `pairs` on is what that rests on, measured on people used neither for the cohort nor the fit.
    """

    recognisers: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float
    plain_weights: tuple[float, ...]
    plain_bias: float
    same: float
    other: float
    pairs: int  # of different people
    false_matches: int
    false_match_rate_low: float
    false_match_rate_high: float
    genuine: int  # portraits, compared with the photo they were made from
    false_non_matches: int  # of them, not called the same person
    groups: tuple[Rate, ...] = ()

    def llr(self, scores: ArrayLike) -> Rows:
        """(…, 2 · recognisers) normalised scores, the plain ones last, to (…,) log-likelihood ratios (natural)."""
        return combined(scores, (self.weights, self.bias), (self.plain_weights, self.plain_bias))

    @property
    def false_match_rate(self) -> float:
        return self.false_matches / self.pairs

    @property
    def basis(self) -> str:
        """What its verdicts rest on, in a sentence."""
        return (
            f"{' and '.join(self.recognisers)}: {self.false_matches} false matches in {self.pairs:,} pairs of "
            f"different people, a rate of {self.false_match_rate_low:.2%} to {self.false_match_rate_high:.2%} "
            f"(exact 95 % interval)."
        )


def combined(
    scores: ArrayLike, projected: tuple[ArrayLike, float], plain: tuple[ArrayLike, float]
) -> NDArray[np.floating]:
    """The log-likelihood ratio of (…, 2 · recognisers) scores by (weights, bias) of either half."""
    first, second = np.split(np.asarray(scores), 2, -1)
    return np.minimum(
        first @ np.asarray(projected[0]) + projected[1], second @ np.asarray(plain[0]) + plain[1] + ALLOWANCE
    )


def fit(genuine: Rows, impostor: Rows) -> tuple[NDArray[np.floating], float]:
    """Weights (recognisers,), none negative, and bias, by logistic regression at `PRIOR`; (pairs, recognisers) each.

    Both kinds weigh as the prior says, however many there are (Brümmer and du Preez 2006).
    """
    from scipy.optimize import minimize

    x, sign = np.vstack([genuine, impostor]), np.repeat([1.0, -1.0], [len(genuine), len(impostor)])
    weight = np.where(sign > 0, PRIOR / len(genuine), (1 - PRIOR) / len(impostor))
    centre, spread = x.mean(0), x.std(0) + 1e-9
    z, odds = (x - centre) / spread, np.log(PRIOR / (1 - PRIOR))

    def loss(p: Rows) -> tuple[float, Rows]:
        margin = sign * (z @ p[:-1] + p[-1] + odds)
        slope = -sign * weight / (1 + np.exp(np.minimum(margin, 700)))
        value = float(weight @ np.logaddexp(0, -margin) + RIDGE * (p[:-1] ** 2).sum())
        return value, np.append(z.T @ slope + 2 * RIDGE * p[:-1], slope.sum())

    bounds = [(0, None)] * x.shape[1] + [(None, None)]
    found = minimize(loss, np.append(np.ones(x.shape[1]), 0.0), jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = found[:-1] / spread
    return weights, float(found[-1] - weights @ centre)
