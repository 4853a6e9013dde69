"""Whose pixels are whose. Every face has a ground of its own, so painting one can neither see nor touch another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Pixels

REACH = 1.75  # ground / detector's box: with the ears, the hairline and the chin's edge


def grounds(faces: Sequence[Face], height: int, width: int, reach: float = REACH) -> NDArray[np.int32]:
    """(H, W): the number of the face whose ground a pixel is, or -1.

    A ground is an ellipse about the face; where two overlap, the pixel belongs to the nearer face, measured in face
    sizes. It follows from the faces alone, never from pixels, so that it stays while faces are painted.
    """
    rows, cols = np.mgrid[:height, :width].astype(np.float32)
    owner = np.full((height, width), -1, np.int32)
    nearest = np.ones((height, width), np.float32)
    for number, face in enumerate(faces):
        x, y = (face.box_px[:2] + face.box_px[2:]) / 2
        turn = math.radians(face.pose.roll_deg)
        across = (cols - x) * math.cos(turn) + (rows - y) * math.sin(turn)
        down = (rows - y) * math.cos(turn) - (cols - x) * math.sin(turn)
        wide, high = (max(1.0, reach * length / 2) for length in (face.width_px, face.height_px))
        away = (across / wide) ** 2 + (down / high) ** 2
        closer = away < nearest
        owner[closer], nearest[closer] = number, away[closer]
    return owner


def blanked(pixels: Pixels, gone: NDArray[np.bool_]) -> Pixels:
    """`pixels` with the `gone` ones replaced by a smooth continuation of the rest, which alone decides what comes.

    Push-pull (Gortler et al. 1996): averages of what is known on ever coarser grids, filled in from coarse to fine.
    """
    if not gone.any():
        return pixels.copy()
    known = (~gone).astype(np.float32)[..., None]
    filled = _filled(pixels.astype(np.float32) * known, known)
    return np.where(gone[..., None], np.clip(np.round(filled), 0, 255), pixels).astype(np.uint8)


def _filled(weighted: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) averages everywhere, from (H, W, 3) sums and their (H, W, 1) weights."""
    height, width = weight.shape[:2]
    mean = weighted / np.maximum(weight, 1e-6)
    if min(height, width) <= 2 or weight.min() > 0.999:
        whole = weighted.sum((0, 1)) / max(float(weight.sum()), 1e-6)
        return np.where(weight > 1e-3, mean, whole).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    sums, shares = (
        np.asarray(cv2.resize(v, half, interpolation=cv2.INTER_AREA), np.float32) for v in (weighted, weight)
    )
    coarse = _filled(sums, shares[..., None])
    below = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(below + np.minimum(weight, 1) * (mean - below), np.float32)
