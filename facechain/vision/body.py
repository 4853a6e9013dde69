"""Where the joints of everybody in a picture are: MediaPipe's BlazePose without MediaPipe.

Bazarevsky et al. 2020; Apache-2.0. A first network finds people, hip and size; a second one looks at each of them,
turned upright. Its 33 points become the 18 of COCO as OpenPose counts them, which pose ControlNets were trained on.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Pixels
from facechain.vision.runtimes import LiteModel, present

_FIND_PX = 224
_LOOK_PX = 256
_SURE = 0.5  # of a person, and of a joint being visible
_OVERLAP = 0.3  # two finds closer than this (intersection over union) are one person
_ROOM = 1.25  # crop side / size of the person found
_STRIDES = ((8, 2), (16, 2), (32, 6))  # pixels between anchors, and anchors at each place

# OpenPose's order from BlazePose's; the neck, which BlazePose lacks, is between the shoulders.
_NECK = 1
_POINTS = (0, 11, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
_SHOULDERS = (11, 12)


class BodyPose:
    """One picture costs one run of the finder and one of the joints for each person found."""

    def __init__(self, finder: Path, joints: Path) -> None:
        self._paths = finder, joints
        self._models: tuple[LiteModel, LiteModel] | None = None
        self._lock = threading.Lock()
        self._anchors = _anchors()

    def joints(self, pixels: Pixels) -> tuple[NDArray[np.float32], ...]:
        """Of everybody, surest first: (18, 3) x, y in pixels and 0…1 how surely it is visible."""
        with self._lock:
            if self._models is None:
                finder, joints = (LiteModel(present(path).read_bytes()) for path in self._paths)
                self._models = finder, joints
            people = self._find(self._models[0], pixels)
            looked = (_look(self._models[1], pixels, hip, above) for hip, above in people)
            return tuple(points for points in looked if points is not None)

    def _find(self, model: LiteModel, pixels: Pixels) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Middle of the hips, and the point above it that a circle around the whole person passes."""
        height, width = pixels.shape[:2]
        scale = _FIND_PX / max(height, width)
        to_square = np.array([[scale, 0, (_FIND_PX - scale * width) / 2], [0, scale, (_FIND_PX - scale * height) / 2]])
        square = cv2.warpAffine(pixels, to_square, (_FIND_PX, _FIND_PX), flags=cv2.INTER_AREA)
        boxes, logits = (out[0] for out in model(square[None].astype(np.float32) / 127.5 - 1))
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0].astype(np.float64), -100, 100)))
        centres = boxes[:, :2] / _FIND_PX + self._anchors
        corners = np.hstack([centres - boxes[:, 2:4] / _FIND_PX / 2, centres + boxes[:, 2:4] / _FIND_PX / 2])
        back = cv2.invertAffineTransform(to_square)
        found = []
        for index in _apart(corners, scores):
            marks = (boxes[index, 4:8].reshape(2, 2) / _FIND_PX + self._anchors[index]) * _FIND_PX
            hip, above = marks @ back[:, :2].T + back[:, 2]
            found.append((hip, above))
        return found


def _anchors() -> NDArray[np.float64]:
    """(2254, 2) centres, 0…1."""
    made = []
    for stride, each in _STRIDES:
        side = _FIND_PX // stride
        yy, xx = np.mgrid[:side, :side]
        made.append(np.repeat((np.stack([xx, yy], -1).reshape(-1, 2) + 0.5) / side, each, axis=0))
    return np.concatenate(made)


def _apart(corners: NDArray, scores: NDArray) -> list[int]:
    """Sure finds, surest first, that are not the same person twice."""
    kept: list[int] = []
    for index in np.argsort(-scores):
        if scores[index] < _SURE:
            break
        if all(_overlap(corners[index], corners[other]) < _OVERLAP for other in kept):
            kept.append(int(index))
    return kept


def _overlap(one: NDArray, other: NDArray) -> float:
    size = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None)
    inside = float(size.prod())
    both = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod())
    return inside / max(both - inside, 1e-9)


def _look(
    model: LiteModel, pixels: Pixels, hip: NDArray[np.float64], above: NDArray[np.float64]
) -> NDArray[np.float32] | None:
    """(18, 3) of the person around whose hips the picture is turned upright; None when there is nobody after all."""
    along = above - hip
    side = 2 * _ROOM * float(np.hypot(*along))
    roll = math.atan2(along[0], -along[1])  # clockwise
    zoom = _LOOK_PX / max(side, 1.0)
    turn = zoom * np.array([[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]])
    to_crop = np.hstack([turn, (_LOOK_PX / 2 - turn @ hip)[:, None]])
    crop = cv2.warpAffine(pixels, to_crop, (_LOOK_PX, _LOOK_PX), flags=cv2.INTER_AREA)
    outputs = model(crop[None].astype(np.float32) / 255)
    if float(outputs[1].ravel()[0]) < _SURE:
        return None
    raw = outputs[0].reshape(-1, 5).astype(np.float64)
    back = cv2.invertAffineTransform(to_crop)
    placed = raw[:, :2] @ back[:, :2].T + back[:, 2]
    seen = 1 / (1 + np.exp(-np.clip(raw[:, 3], -100, 100)))
    points = np.hstack([placed, seen[:, None]])
    made = points[list(_POINTS)]
    left, right = points[list(_SHOULDERS)]
    made[_NECK] = (*((left + right) / 2)[:2], min(left[2], right[2]))
    return made.astype(np.float32)
