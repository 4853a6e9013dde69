"""Finds faces with SCRFD, on the ONNX files InsightFace publishes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Pixels
from facechain.vision.pose import five_point_pose
from facechain.vision.runtimes import onnx_session

UPRIGHT_SCORE = 0.80  # turned faces of 54 photos score 0.795 at most
_SQUARE_PX = 640
_STRIDES = (8, 16, 32)
_ANCHORS = 2  # a cell
_MIN_SCORE = 0.5
_MAX_OVERLAP = 0.4


class Scrfd:
    """SCRFD with key points (Guo et al. 2021): non-commercial weights.

    As InsightFace's FaceAnalysis with det_size 640. The picture lies in a corner of a black square, and the whole
    square is looked at: leaving out its empty part would move points by a pixel and cosines by up to 0.03.
    """

    def __init__(self, onnx: Path) -> None:
        self._onnx = onnx
        self._session: Any = None
        self._lock = threading.Lock()

    def detect(self, pixels: Pixels) -> tuple[Face, ...]:
        """Faces left to right, at any picture size."""
        height, width = pixels.shape[:2]
        rows = self._look(pixels, _SQUARE_PX / max(height, width))
        if not len(rows):  # a face without surroundings is only seen when it gets some
            margin = max(height, width) // 4
            padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)))
            rows = self._look(padded, _SQUARE_PX / max(padded.shape[:2]))
            rows[:, :14] -= margin
        faces = [_face(row) for row in _best(rows)]
        return tuple(sorted(faces, key=lambda face: (float(face.box_px[0] + face.box_px[2]), float(face.box_px[1]))))

    def _look(self, pixels: Pixels, scale: float) -> NDArray[np.float32]:
        """(N, 15) left, top, right, bottom, five points, score, in pixels of the picture."""
        height, width = max(1, int(pixels.shape[0] * scale)), max(1, int(pixels.shape[1] * scale))
        small = cv2.resize(pixels, (width, height))
        canvas = np.zeros((_SQUARE_PX, _SQUARE_PX, 3), np.uint8)
        canvas[:height, :width] = small
        blob = cv2.dnn.blobFromImage(canvas, 1 / 128, mean=(127.5,) * 3)
        with self._lock:
            if self._session is None:
                self._session = onnx_session(self._onnx)
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: blob})
        found = []
        for level, stride in enumerate(_STRIDES):
            scores, boxes, points = (
                outputs[level + 3 * kind].reshape(-1, size) for kind, size in enumerate((1, 4, 10))
            )
            (sure,) = np.nonzero(scores[:, 0] >= _MIN_SCORE)
            y, x = np.divmod(sure // _ANCHORS, _SQUARE_PX // stride)
            anchor = np.stack([x, y], -1).astype(np.float32) * stride
            box = np.hstack([anchor - boxes[sure, :2] * stride, anchor + boxes[sure, 2:] * stride])
            found.append(np.hstack([box, np.tile(anchor, 5) + points[sure] * stride, scores[sure]]))
        rows = np.vstack(found)
        rows[:, :14] /= height / pixels.shape[0]
        return rows


def _best(rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The surest rows that overlap no surer one (non-maximum suppression, whole-pixel areas)."""
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    kept = []
    while len(rows):
        kept.append(rows[0])
        low, high = np.maximum(rows[0, :2], rows[:, :2]), np.minimum(rows[0, 2:4], rows[:, 2:4])
        common = np.maximum(high - low + 1, 0).prod(-1)
        areas = (rows[:, 2:4] - rows[:, :2] + 1).prod(-1)
        rows = rows[common / (areas[0] + areas - common) <= _MAX_OVERLAP]
    return kept


def _face(row: NDArray[np.float32]) -> Face:
    points = row[4:14].reshape(5, 2).copy()
    return Face(box_px=row[:4].copy(), points_px=points, score=float(row[14]), pose=five_point_pose(points))
