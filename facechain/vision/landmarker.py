"""478 landmarks, 52 expression coefficients and head pose: MediaPipe's face landmarker without MediaPipe."""

from __future__ import annotations

import math
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Mesh, Pixels, Pose
from facechain.vision.pose import angles, rotation_between
from facechain.vision.runtimes import LiteModel, present

_CROP_PX = 256
_ROOM = 1.5  # crop side / face size, as the model was trained
_DETECTOR_ROOM = 1.4  # the same from a detector's box, which is larger than the landmarks' own
_LOOKS = 2  # the second crop is placed by the first one's landmarks

# Outer eye corners; a face is upright when the line between them is level.
_EYE_LEFT, _EYE_RIGHT = 33, 263

# What the expression model reads, and in which order it answers (MediaPipe, face_blendshapes_graph.cc).
# fmt: off
_EXPRESSION_POINTS = np.array([
    0, 1, *range(4, 9), 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, *range(52, 56), 58, 61, 63, 65, 66, 67, 70, 78,
    80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150,
    *range(152, 156), *range(157, 164), 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, *range(282, 286), 288, 291, 293, 295, 296, 297, 300, 308, *range(310, 313), 314,
    317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, *range(377, 383),
    *range(384, 391), 397, 398, 400, 402, 405, 409, 415, 454, 466, *range(468, 478),
])
EXPRESSIONS = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen",
    "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)
# fmt: on


class _Square(NamedTuple):
    """A turned square of the picture."""

    centre: NDArray[np.float64]  # (2,)
    side: float
    roll: float  # radians, clockwise

    def to_crop(self) -> NDArray[np.float64]:
        """Picture to crop, (2, 3)."""
        zoom = _CROP_PX / self.side
        turn = zoom * np.array(
            [[math.cos(self.roll), math.sin(self.roll)], [-math.sin(self.roll), math.cos(self.roll)]]
        )
        middle = _CROP_PX / 2 - 0.5  # pixel centres have whole numbers
        return np.hstack([turn, (middle - turn @ self.centre)[:, None]])


class _Models(NamedTuple):
    landmarks: LiteModel
    expressions: LiteModel
    head: NDArray[np.float64]  # (468, 3) an average head; x right, y down, z away, in centimetres
    weights: NDArray[np.float64]  # (468,) how far each landmark tells the pose, not the expression
    triangles: NDArray[np.int32]  # (898, 3) the head's surface, eyes and mouth closed


class Landmarker:
    """Apache-2.0; Kartynnik et al. 2019 and Grishchenko et al. 2020. One face costs two runs of the network."""

    def __init__(self, task: Path) -> None:
        self._task = task
        self._models: _Models | None = None
        self._lock = threading.Lock()

    def triangles(self) -> NDArray[np.int32]:
        """(898, 3) indices of the first 468 points: the surface they span, eyes and mouth closed."""
        with self._lock:
            return self._ready().triangles

    def mirror(self) -> NDArray[np.int64]:
        """(468,) of each of the first 468 points, its counterpart on the other side of the face."""
        with self._lock:
            head = self._ready().head
        return ((head[:, None] - head[None] * (-1, 1, 1)) ** 2).sum(-1).argmin(1)

    def _ready(self) -> _Models:
        if self._models is None:
            self._models = _load(present(self._task))
        return self._models

    def mesh(self, pixels: Pixels, face: Face) -> Mesh | None:
        """Dense landmarks of one detected face; None when the model is surer of no face than of one."""
        with self._lock:
            models = self._ready()
            square = _around_box(face)
            for _ in range(_LOOKS):
                points, score = _look(models.landmarks, pixels, square)
                square = _around_points(points)
            if score < 0.5:
                return None
            chosen = points[_EXPRESSION_POINTS, :2].astype(np.float32)
            coefficients = models.expressions(chosen[None])[0].ravel()
        return Mesh(
            points_px=points.astype(np.float32),
            expressions={name: float(v) for name, v in zip(EXPRESSIONS, coefficients, strict=True)},
            pose=_pose(points, models),
            score=score,
        )


def _around_box(face: Face) -> _Square:
    left, right = face.points_px[:2].astype(np.float64)
    roll = math.atan2(right[1] - left[1], right[0] - left[0])
    box = face.box_px.astype(np.float64)
    return _Square((box[:2] + box[2:]) / 2, _DETECTOR_ROOM * max(face.width_px, face.height_px), roll)


def _around_points(points: NDArray[np.float64]) -> _Square:
    across = points[_EYE_RIGHT, :2] - points[_EYE_LEFT, :2]
    roll = math.atan2(across[1], across[0])
    upright = np.array([[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]])
    flat = points[:, :2] @ upright.T
    low, high = flat.min(0), flat.max(0)
    return _Square(upright.T @ ((low + high) / 2), _ROOM * float((high - low).max()), roll)


def _look(model: LiteModel, pixels: Pixels, square: _Square) -> tuple[NDArray[np.float64], float]:
    """478 points (x, y in picture pixels, depth in the same unit) and the probability of a face."""
    to_crop = square.to_crop()
    crop = _shrinking_warp(pixels, to_crop, square.side)
    raw, logit = model(crop[None].astype(np.float32) / 255)[:2]
    points = raw.reshape(-1, 3).astype(np.float64)
    back = cv2.invertAffineTransform(to_crop)
    placed = (points[:, :2] - 0.5) @ back[:, :2].T + back[:, 2]
    depth = points[:, 2:] * (square.side / _CROP_PX)
    return np.hstack([placed, depth]), 1 / (1 + math.exp(-float(logit.ravel()[0])))


def _shrinking_warp(pixels: Pixels, to_crop: NDArray[np.float64], side: float) -> Pixels:
    """The crop, sampled finely and then averaged, or fine detail of a large face would turn into noise."""
    finer = max(1, min(8, round(side / _CROP_PX)))
    matrix = to_crop * finer
    matrix[:, 2] += (finer - 1) / 2
    crop = cv2.warpAffine(pixels, matrix, (finer * _CROP_PX, finer * _CROP_PX), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(crop, (_CROP_PX, _CROP_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _pose(points: NDArray[np.float64], models: _Models) -> Pose:
    return angles(rotation_between(models.head, points[: len(models.head)], models.weights))


def _load(task: Path) -> _Models:
    with zipfile.ZipFile(task) as archive:
        landmarks = LiteModel(archive.read("face_landmarks_detector.tflite"))
        expressions = LiteModel(archive.read("face_blendshapes.tflite"))
        geometry = _read_geometry(archive.read("geometry_pipeline_metadata_landmarks.binarypb"))
    return _Models(landmarks, expressions, *geometry)


def _read_geometry(message: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """The average head, the weight of each landmark, and the triangles of the head's surface.

    MediaPipe's message: field 1 is the head's mesh (its field 3: x, y, z, u, v a vertex, y up, z towards the
    viewer; its field 4: vertex numbers, three a triangle), field 2 repeats a landmark's number (1) and weight (2).
    """
    fields = list(_protobuf(message))
    mesh = next(value for number, value in fields if number == 1)
    packed = b"".join(value for number, value in _protobuf(mesh) if number == 3)
    head = np.frombuffer(packed, "<f4").reshape(-1, 5)[:, :3] * (1.0, -1.0, -1.0)
    weights = np.zeros(len(head))
    for number, value in fields:
        if number == 2:
            entry = dict(_protobuf(value))
            weights[entry.get(1, 0)] = struct.unpack("<f", entry[2])[0]
    triangles = np.array([value for number, value in _protobuf(mesh) if number == 4], np.int32).reshape(-1, 3)
    return head, weights, triangles


def _protobuf(message: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of one message: integers as int, everything else as its bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield key >> 3, message[at : at + size]
        at += size
