"""Aligned portrait framing: the head upright, always the same size and in the same place.

FaceChain's numbers (data_process/preprocessing.py, v3): the face's longer side fills 30 % of a square, its centre
lies 43.5 % below the top edge, what the photo does not show is white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.errors import ConfigError
from facechain.types import Face, Mask, Part, Parts, Pixels, Points


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a crop is cut. Raises ConfigError when a number makes no sense."""

    face_share: float = 0.35 / 1.15  # longer side of the face box / side of the crop
    centre_down: float = 0.435  # centre of the face box from the top / side of the crop
    side_px: int = 512
    max_enlarge: float = 2.0  # small faces give smaller crops rather than invented detail
    fill: int = 255  # grey value where the photo ends

    def __post_init__(self) -> None:
        if not (0.05 <= self.face_share <= 1 and 0 < self.centre_down < 1):
            raise ConfigError("A framing must show the face.", "Use a face_share of 0.05…1 and a centre_down of 0…1.")
        if not (32 <= self.side_px <= 4096 and self.max_enlarge > 0 and 0 <= self.fill <= 255):
            raise ConfigError("A framing's size is out of range.", "Use a side_px of 32…4096 and a fill of 0…255.")


PORTRAIT = Framing()


@dataclass(frozen=True, kw_only=True, eq=False)
class Placing:
    """Where a crop lies in its photo: a turn, a zoom and a shift."""

    matrix: NDArray[np.float64]  # (2, 3) photo pixels → crop pixels
    side_px: int

    @property
    def zoom(self) -> float:
        return float(np.hypot(self.matrix[0, 0], self.matrix[0, 1]))

    def apply(self, points: Points) -> Points:
        """(N, 2) photo pixels → crop pixels."""
        return (points.astype(np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]).astype(np.float32)

    def undo(self, points: Points) -> Points:
        """(N, 2) crop pixels → photo pixels."""
        turn = np.linalg.inv(self.matrix[:, :2])
        return ((points.astype(np.float64) - self.matrix[:, 2]) @ turn.T).astype(np.float32)


def place(face: Face, framing: Framing = PORTRAIT) -> Placing:
    """Upright, scaled and shifted so that the face lands where the framing wants it."""
    roll = upright_roll(face.points_px)
    longer = max(face.width_px, face.height_px, 1.0)
    side = min(framing.side_px, max(32, round(framing.max_enlarge * longer / framing.face_share)))
    zoom = side * framing.face_share / longer
    cos, sin = zoom * math.cos(roll), zoom * math.sin(roll)
    turn = np.array([[cos, sin], [-sin, cos]])
    centre = (face.box_px[:2] + face.box_px[2:]).astype(np.float64) / 2
    shift = np.array([side / 2, side * framing.centre_down]) - turn @ centre
    return Placing(matrix=np.hstack([turn, shift[:, None]]), side_px=side)


def upright_roll(points_px: Points) -> float:
    """How far the face leans clockwise, in radians, from its five points.

    The eyes' line and the line from eyes to mouth both vote: each alone tilts when the head turns.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = points_px.astype(np.float64)
    across = (right_eye - left_eye) + (right_mouth - left_mouth)
    down = (left_mouth + right_mouth) - (left_eye + right_eye)
    # In picture axes a level face has across = (1, 0) and down = (0, 1), which turned back by 90° is (1, 0) too.
    total = across + np.array([down[1], -down[0]])
    return math.atan2(total[1], total[0])


def cut(pixels: Pixels, placing: Placing, fill: int = PORTRAIT.fill) -> Pixels:
    """The crop, (side, side, 3)."""
    return _warp(pixels, placing, (fill, fill, fill))


def corners(photo_shape: tuple[int, ...]) -> Points:
    """(4, 2) of the photo, in its own pixels, clockwise from the top left."""
    bottom, right = photo_shape[0] - 1, photo_shape[1] - 1
    return np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)], np.float32)


def inside(photo_shape: tuple[int, ...], placing: Placing) -> Mask:
    """(side, side): 1 where the crop shows the photo, 0 where it was filled."""
    return _warp(np.ones(photo_shape[:2], np.float32), placing, (0.0,))  # type: ignore[return-value]


def _warp(picture: np.ndarray, placing: Placing, border: tuple[float, ...]) -> np.ndarray:
    """Sampled finely and then averaged when shrinking, so that detail does not turn into noise."""
    finer = max(1, min(8, round(1 / placing.zoom)))
    matrix = placing.matrix * finer
    matrix[:, 2] += (finer - 1) / 2
    side = finer * placing.side_px
    flags = cv2.INTER_CUBIC if placing.zoom > 1 and picture.ndim == 3 else cv2.INTER_LINEAR
    warped = cv2.warpAffine(picture, matrix, (side, side), flags=flags, borderValue=border)
    return cv2.resize(warped, (placing.side_px, placing.side_px), interpolation=cv2.INTER_AREA) if finer > 1 else warped


def face_in_crop(face: Face, placing: Placing) -> Face:
    """The same face in crop pixels; pose keeps its turn, loses its lean; the embedding goes along."""
    left, top, right, bottom = face.box_px
    corners = placing.apply(np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32))
    # The box grows and shrinks with the zoom but stays a face's size: its turned corners would make it larger.
    centre, half = corners.mean(0), placing.zoom * np.array([face.width_px, face.height_px]) / 2
    return replace(
        face,
        box_px=np.concatenate([centre - half, centre + half]).astype(np.float32),
        points_px=placing.apply(face.points_px),
        pose=replace(face.pose, roll_deg=face.pose.roll_deg - math.degrees(upright_roll(face.points_px))),
    )


def head_mask(parts: Parts, face: Face) -> Mask:
    """Hair and face, with what is worn on the head; only the piece around `face`. Same size as the parts, 0…1."""
    masks = parts.masks
    head = masks[Part.HAIR] + masks[Part.FACE_SKIN]
    height, width = head.shape
    left, top, right, bottom = face.box_px
    # Glasses, hats and earrings count near the face, a necklace or a bag does not.
    room = 0.5 * max(face.width_px, face.height_px)
    near = np.zeros_like(head)
    rows = slice(max(0, int(top - 2 * room)), max(0, int(bottom)))
    columns = slice(max(0, int(left - room)), max(0, int(right + room)))
    near[rows, columns] = 1
    head = np.clip(head + masks[Part.OTHER] * near, 0, 1)
    _, labels = cv2.connectedComponents((head > 0.5).astype(np.uint8))
    x, y = (int(np.clip(v, 0, limit - 1)) for v, limit in zip(face.points_px.mean(0), (width, height), strict=True))
    around = labels[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5]
    numbers = around[around > 0]
    if not len(numbers):
        return np.zeros(head.shape, np.float32)
    piece = (labels == np.bincount(numbers).argmax()).astype(np.uint8)
    soft_edge = cv2.dilate(piece, np.ones((5, 5), np.uint8))
    return (head * soft_edge).astype(np.float32)
