"""Warped features: eyes and mouth that are lopsided, melted or doubled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facechain.types import Mesh

WARPED = 0.5  # of `Verdict.warp`: at or above, features count as warped
LIMIT = 0.033  # asymmetry, in eye distances, which one in a hundred untouched faces exceeds
USUAL = 0.013  # of the face in the middle; what a person has more of is their own
TURN_DEG = 20.0  # a head turned so far doubles what a mesh errs by
MOST_TURN_DEG = 30.0  # beyond nothing is said
STEEPNESS = 4.0
_OUTER_EYES = (33, 263)
_EYES = np.array([33, 133, 145, 159, 263, 362, 374, 386, 70, 300])
_MOUTH = np.array([0, 13, 14, 17, 61, 291])


def asymmetry(mesh: Mesh, mirror: NDArray[np.int64]) -> float | None:
    """How far eyes or mouth, whichever more, are from their own mirror image, in eye distances; None when turned away.

    `mirror` (468,) gives each landmark's place on the other side. The mesh is compared in three dimensions, so that a
    turned head is not asymmetric by itself, and the error that turning adds is divided out.
    """
    yaw = abs(mesh.pose.yaw_deg)
    if yaw > MOST_TURN_DEG:
        return None
    points = mesh.points_px[: len(mirror)].astype(np.float64)
    points -= points.mean(0)
    other = (points * (-1, 1, 1))[mirror]
    left, _, right = np.linalg.svd(other.T @ points)
    turn = left @ np.diag((1, 1, np.sign(np.linalg.det(left @ right)))) @ right
    away = np.linalg.norm(other @ turn - points, axis=1)
    eyes_apart = np.linalg.norm(points[_OUTER_EYES[0], :2] - points[_OUTER_EYES[1], :2])
    return float(max(away[_EYES].mean(), away[_MOUTH].mean()) / eyes_apart / (1 + yaw / TURN_DEG))


def warp(made: float | None, own: Sequence[float]) -> float | None:
    """0 … 1, how surely features are warped, from a portrait's asymmetry and those of the person's photos."""
    if made is None:
        return None
    excess = made - max(0.0, float(np.median(own)) - USUAL) if own else made
    return float(1 / (1 + (LIMIT / max(excess, 1e-6)) ** STEEPNESS))
