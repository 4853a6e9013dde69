"""Faces moved onto the five-point template that ArcFace-style recognisers were trained with."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Pixels, Points

# Where eyes, nose tip and mouth corners lie in a 112 px chip (InsightFace, SphereFace's template shifted by 8 px).
TEMPLATE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)


def template(size: int) -> NDArray[np.float64]:
    """The five points in a `size` px chip, (5, 2).

    Sizes that are no multiple of 112 use the 128 px layout: the same face with 8 px more on either side.
    """
    if size % 112 == 0:
        return TEMPLATE_112 * (size / 112)
    return (TEMPLATE_112 + np.array([8.0, 0.0])) * (size / 128)


def similarity(source: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Least-squares scale, turn and shift taking `source` (…, N, 2) to `target` (…, N, 2), as (…, 2, 3).

    Umeyama's estimate (1991). In the plane it has a closed form: with points as complex numbers the
    optimum is one complex factor, so any number of faces is solved at once.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    from_, to = source[..., 0] + 1j * source[..., 1], target[..., 0] + 1j * target[..., 1]
    from_mean, to_mean = from_.mean(-1), to.mean(-1)
    from_centred, to_centred = from_ - from_mean[..., None], to - to_mean[..., None]
    spread = (np.abs(from_centred) ** 2).sum(-1)
    factor = (from_centred.conj() * to_centred).sum(-1) / np.maximum(spread, np.finfo(float).tiny)
    shift = to_mean - factor * from_mean
    rows = [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def norm_crop_matrix(points: Points, size: int = 112) -> NDArray[np.float64]:
    """Picture to chip, (2, 3); equal to InsightFace's `estimate_norm`. `points` may be (…, 5, 2)."""
    return similarity(points, template(size))


def norm_crop(pixels: Pixels, points: Points, size: int = 112) -> Pixels:
    """The aligned chip, (size, size, 3); black where the picture ends."""
    chip = cv2.warpAffine(pixels, norm_crop_matrix(points, size), (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(chip, np.uint8)
