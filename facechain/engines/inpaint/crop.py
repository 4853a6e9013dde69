"""The square around a face that is painted at the base's own size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from facechain.types import Face, Pixels

FACE_SHARE = 0.45  # face height / crop side: the head, hair and shoulders tell the base what it is looking at

ROOM = 1.25  # crop side / face height at the very least


@dataclass(frozen=True, kw_only=True)
class Square:
    """A square of whole pixels; it may hang over the picture's edge."""

    left: int
    top: int
    side: int

    def cut(self, pixels: Pixels) -> Pixels:
        """(side, side, 3); beyond the edge its last pixels go on."""
        height, width = pixels.shape[:2]
        right, bottom = self.left + self.side, self.top + self.side
        inner = pixels[max(self.top, 0) : min(bottom, height), max(self.left, 0) : min(right, width)]
        over = (max(-self.top, 0), max(bottom - height, 0), max(-self.left, 0), max(right - width, 0))
        return np.asarray(cv2.copyMakeBorder(inner, *over, borderType=cv2.BORDER_REPLICATE), np.uint8)

    def put(self, pixels: Pixels, crop: Pixels) -> Pixels:
        """A copy of `pixels` with `crop` at the square's place; what hangs over is dropped."""
        height, width = pixels.shape[:2]
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.side, height), min(self.left + self.side, width)
        made = pixels.copy()
        made[top:bottom, left:right] = crop[top - self.top : bottom - self.top, left - self.left : right - self.left]
        return made

    def moved(self, face: Face, scale: float = 1.0) -> Face:
        """The face in pixels of the crop, then enlarged by `scale`."""
        corner = np.array([self.left, self.top], np.float32)
        return replace(
            face,
            box_px=((face.box_px - np.tile(corner, 2)) * scale).astype(np.float32),
            points_px=((face.points_px - corner) * scale).astype(np.float32),
        )


def around(face: Face, height_px: int, width_px: int) -> Square:
    """So that the face takes up FACE_SHARE of the side, a little below the middle to leave room for the hair.

    Near the picture's edge it moves inwards, and in a picture filled by a face it shrinks: nothing true is beyond.
    """
    size = max(face.height_px, face.width_px)
    side = max(16, round(size / FACE_SHARE))
    side = min(side, max(min(height_px, width_px), round(ROOM * size)))
    centre = (face.box_px[:2] + face.box_px[2:]) / 2
    left, top = np.round(centre - side / 2 - (0, 0.05 * side)).astype(int)
    return Square(left=_inside(left, side, width_px), top=_inside(top, side, height_px), side=side)


def _inside(start: int, side: int, length: int) -> int:
    return int(np.clip(start, 0, length - side)) if side <= length else (length - side) // 2


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """A square array at another side, averaged when it shrinks."""
    if pixels.shape[0] == side:
        return pixels.copy()
    how = cv2.INTER_AREA if side < pixels.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(pixels, (side, side), interpolation=how)
