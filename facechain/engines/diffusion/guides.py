"""Pictures ControlNets follow, drawn from a photo: edges, a skeleton, depth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Mask, Pixels

# Two joints a limb, in OpenPose's order, and the colour of each limb and joint: what pose ControlNets were shown.
# fmt: off
_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)
_COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)
# fmt: on
_LIMB_LIGHT = 0.6
_DRAWN_PX = 512  # shorter side of the picture that limbs 8 px wide were drawn on
_SURE = 0.5


def canny(pixels: Pixels, low: int = 100, high: int = 200) -> Pixels:
    """White edges on black; thresholds on the gradient as OpenCV has them."""
    edges = cv2.Canny(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), low, high)
    return np.repeat(edges[:, :, None], 3, axis=2).astype(np.uint8)


def skeleton(people: Sequence[NDArray[np.float32]], height: int, width: int) -> Pixels:
    """`people`: (18, 3) each, x, y and how surely seen. Limbs darker than joints; joints outside are left out."""
    drawn = np.zeros((height, width, 3), np.uint8)
    thick = max(1, round(4 * min(height, width) / _DRAWN_PX))
    shown = [_seen(points, height, width) for points in people]
    for points, seen in zip(people, shown, strict=True):
        for (one, other), colour in zip(_LIMBS, _COLOURS, strict=False):
            if seen[one] and seen[other]:
                a, b = points[one, :2].astype(float), points[other, :2].astype(float)
                middle, along = (a + b) / 2, b - a
                half = (round(np.hypot(*along) / 2), thick)
                angle = round(np.degrees(np.arctan2(along[1], along[0])))
                outline = cv2.ellipse2Poly((round(middle[0]), round(middle[1])), half, angle, 0, 360, 1)
                cv2.fillConvexPoly(drawn, np.asarray(outline, np.int32), colour)
    drawn = (drawn * _LIMB_LIGHT).astype(np.uint8)
    for points, seen in zip(people, shown, strict=True):
        for (x, y, _), there, colour in zip(points, seen, _COLOURS, strict=True):
            if there:
                cv2.circle(drawn, (round(float(x)), round(float(y))), thick, colour, thickness=-1)
    return drawn


def depth(near: Mask) -> Pixels:
    """Near is bright. `near`: 0 farthest … 1 nearest."""
    return np.repeat(np.round(near * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _seen(points: NDArray[np.float32], height: int, width: int) -> NDArray[np.bool_]:
    inside = (points[:, 0] >= 0) & (points[:, 0] < width) & (points[:, 1] >= 0) & (points[:, 1] < height)
    return inside & (points[:, 2] >= _SURE)
