"""InstantID's picture of a face's five points, and picture sizes without its forced upscale."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facechain.types import Pixels, Points

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))  # eyes, nose, mouth corners
NOSE = 2
STICK_PX = 4
DISC_PX = 10
DIM = 0.6  # sticks are darker than discs


def draw_keypoints(points_px: Points, width_px: int, height_px: int) -> Pixels:
    """(height, width, 3) RGB on black: a dim stick from the nose to every other point, a bright disc on each.

    InstantID's training picture (Wang et al. 2024): whole degrees, whole half-lengths, brightness cut to whole steps.
    """
    canvas = np.zeros((height_px, width_px, 3), np.uint8)
    points = np.asarray(points_px, np.float64)
    for end in (0, 1, 3, 4):
        (x, y), (nose_x, nose_y) = points[end], points[NOSE]
        length = math.hypot(x - nose_x, y - nose_y)
        degrees = math.degrees(math.atan2(y - nose_y, x - nose_x))
        middle = (int((x + nose_x) / 2), int((y + nose_y) / 2))
        stick = cv2.ellipse2Poly(middle, (int(length / 2), STICK_PX), int(degrees), 0, 360, 1)
        cv2.fillConvexPoly(canvas, np.array(stick), COLOURS[end])
    canvas = (canvas * DIM).astype(np.uint8)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        cv2.circle(canvas, (int(x), int(y)), DISC_PX, colour, -1)
    return canvas


def published_size(width_px: int, height_px: int) -> tuple[int, int]:
    """The size InstantID's demo paints for a picture: its long side is always 1280 px, which we do not follow."""
    short = 1024 / min(width_px, height_px)
    width, height = round(width_px * short), round(height_px * short)
    long = 1280 / max(width, height)
    return round(width * long) // 64 * 64, round(height * long) // 64 * 64


def fitting_size(width_px: int, height_px: int, area_px: int = 1024 * 1024) -> tuple[int, int]:
    """The nearest size with sides in multiples of 64 and about `area_px` pixels; smaller pictures stay small."""
    scale = min(1.0, math.sqrt(area_px / (width_px * height_px)))
    return max(64, round(width_px * scale / 64) * 64), max(64, round(height_px * scale / 64) * 64)
