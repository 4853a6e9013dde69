"""Where the face shows, and joining it to the picture in frequency bands (Burt & Adelson 1983)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Mask


def polygon(
    size: tuple[int, int], points_px: NDArray, ring: Sequence[int], grow_px: float = 0, soft_px: float = 0
) -> NDArray:
    """Filled ring of landmarks, grown (or shrunk, if negative) and feathered; (H, W) 0…1."""
    mask = np.zeros(size, np.uint8)
    hull = np.round(points_px[list(ring), :2] * 16).astype(np.int32)
    cv2.fillPoly(mask, [hull], 255, lineType=cv2.LINE_AA, shift=4)
    if grow_px:
        radius = max(1, round(abs(grow_px)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        mask = cv2.dilate(mask, kernel) if grow_px > 0 else cv2.erode(mask, kernel)
    soft = mask.astype(np.float32) / 255
    return cv2.GaussianBlur(soft, (0, 0), soft_px) if soft_px > 0 else soft


def bands(person: NDArray, picture: NDArray, mask: Mask, levels: int) -> NDArray:
    """Blend two (H, W, 3) pictures: coarse bands mix over a wide seam, fine bands over a narrow one."""
    a, b, m = person.astype(np.float32), picture.astype(np.float32), mask.astype(np.float32)
    stack = []
    for _ in range(levels):
        if min(a.shape[:2]) < 8:
            break
        down = [cv2.pyrDown(v) for v in (a, b, m)]
        size = (a.shape[1], a.shape[0])
        fine_a = a - cv2.pyrUp(down[0], dstsize=size)
        fine_b = b - cv2.pyrUp(down[1], dstsize=size)
        stack.append(fine_b + (fine_a - fine_b) * m[..., None])
        a, b, m = down
    out = b + (a - b) * m[..., None]
    for band in reversed(stack):
        out = cv2.pyrUp(out, dstsize=(band.shape[1], band.shape[0])) + band
    return out
