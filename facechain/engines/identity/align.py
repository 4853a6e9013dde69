"""A face moved onto the five-point template that ArcFace-style models were trained with."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Pixels, Points

# Eyes, nose tip, mouth corners in a 112 px chip (the convention of InsightFace).
CHIP_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)

# The same in a 512 px picture of the whole head (the convention of FFHQ, as facexlib has it).
HEAD_512 = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)


def chip_matrix(points_px: Points, size: int) -> NDArray[np.float64]:
    """Picture to a `size` px chip, (2, 3).

    Sizes that are no multiple of 112 use the 128 px layout: the same face with 8 px more on both sides.
    """
    target = CHIP_112 * (size / 112) if size % 112 == 0 else (CHIP_112 + np.array([8.0, 0.0])) * (size / 128)
    return similarity(points_px, target)


def similarity(points_px: Points, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scale, turn and shift, (2, 3), that brings points nearest to their targets (least squares, Umeyama 1991)."""
    # In the plane one complex factor is the optimum.
    came, to = (np.asarray(p, np.float64) @ [1, 1j] for p in (points_px, target))
    spread = np.abs(came - came.mean()) ** 2
    factor = ((came - came.mean()).conj() * (to - to.mean())).sum() / spread.sum()
    shift = to.mean() - factor * came.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def chip(pixels: Pixels, points_px: Points, size: int) -> Pixels:
    """(size, size, 3); black where the picture ends."""
    matrix = chip_matrix(points_px, size)
    return np.asarray(cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR), np.uint8)


def head_512(pixels: NDArray, points_px: Points) -> NDArray:
    """(512, 512, C) the whole head, upright; black where the picture ends."""
    matrix = similarity(points_px, HEAD_512)
    return np.asarray(cv2.warpAffine(pixels, matrix, (512, 512), flags=cv2.INTER_LINEAR), pixels.dtype)
