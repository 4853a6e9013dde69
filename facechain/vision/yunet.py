"""Finds faces with YuNet, through OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Pixels
from facechain.vision.pose import five_point_pose
from facechain.vision.runtimes import Spares, opencv_quietly, present

UPRIGHT_SCORE = 0.93  # turned faces score 0.92 at most, see `photos.upright`
_REDUCED_PX = 640  # long side of the first look
_CLOSE_PX = 1600  # long side of the second look, when the first saw nothing
_CLOSEST_PX = 3000  # and at most, when it saw small faces
_FRAME_PX = 256  # long side of the look for a face that fills the picture
_SMALL_FACE_PX = 32  # where the first look sees one, smaller ones may hide
_CLEAR_FACE_PX = 64  # width the second look gives the smallest face seen


class Yunet:
    """YuNet 2023mar (MIT; Wu et al. 2023). Finds upright and turned faces from about 10 px."""

    def __init__(self, onnx: Path, min_score: float = 0.7) -> None:
        self._networks = Spares(
            lambda: opencv_quietly(lambda: cv2.FaceDetectorYN.create(str(present(onnx)), "", (320, 320), min_score))
        )

    def detect(self, pixels: Pixels) -> tuple[Face, ...]:
        """Faces left to right, at any picture size."""
        long_side = max(pixels.shape[:2])
        scale = min(1.0, _REDUCED_PX / long_side)
        rows = self._look(pixels, scale)
        closer = self._closer(rows, scale, long_side)
        if closer > scale:
            rows = np.vstack([rows, self._look(pixels, closer)])
        if not len(rows):  # some faces that fill the picture are only seen with room around them
            rows = self._look(pixels, _FRAME_PX / long_side, margin=0.25)
        faces = [_face(row) for row in _without_doubles(rows)]
        return tuple(sorted(faces, key=lambda face: (float(face.box_px[0] + face.box_px[2]), float(face.box_px[1]))))

    @staticmethod
    def _closer(rows: NDArray[np.float32], scale: float, long_side: int) -> float:
        """The scale of a second look for faces too small for the first; not above `scale` when none is needed."""
        if not len(rows):
            return min(1.0, _CLOSE_PX / long_side)
        smallest = float(rows[:, 2].min())
        if smallest * scale >= _SMALL_FACE_PX:
            return 0.0
        return min(1.0, _CLOSEST_PX / long_side, _CLEAR_FACE_PX / smallest)

    def _look(self, pixels: Pixels, scale: float, margin: float = 0.0) -> NDArray[np.float32]:
        """(N, 15) left, top, width, height, five points, score, in pixels of the whole picture."""
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        step = max(1, min(int(1 / scale), *pixels.shape[:2]))
        blocks = _blocks(pixels, step)
        bgr = cv2.cvtColor(cv2.resize(blocks, (width, height)), cv2.COLOR_RGB2BGR)
        border = round(max(height, width) * margin)
        if border:
            bgr = cv2.copyMakeBorder(bgr, border, border, border, border, cv2.BORDER_REPLICATE)
        with self._networks.one() as network:
            network.setInputSize((bgr.shape[1], bgr.shape[0]))
            rows = network.detect(bgr)[1]
        if rows is None:
            return np.zeros((0, 15), np.float32)
        found = np.array(rows, np.float32)
        factor = np.tile((step * blocks.shape[1] / width, step * blocks.shape[0] / height), 7).astype(np.float32)
        found[:, :2] -= border
        found[:, 4:14] -= border
        found[:, :14] *= factor
        return found


def _blocks(pixels: Pixels, step: int) -> Pixels:
    """Means of `step` × `step` blocks, a last incomplete row or column left out.

    OpenCV averages whole blocks several times as fast as areas of any other size; what is left to shrink
    is less than half, where a linear resize loses nothing.
    """
    if step == 1:
        return pixels
    height, width = pixels.shape[0] // step, pixels.shape[1] // step
    whole = pixels[: height * step, : width * step]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _without_doubles(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Best first; drops boxes that mostly lie in a better one, be it another look at it or a part of it."""
    kept: list[NDArray[np.float32]] = []
    for row in rows[np.argsort(-rows[:, 14], kind="stable")]:
        if all(_shared(row, other) < 0.5 for other in kept):
            kept.append(row)
    return np.array(kept, np.float32).reshape(-1, 15)


def _shared(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Common area over the smaller area, 0…1."""
    sides = np.minimum(a[:2] + a[2:4], b[:2] + b[2:4]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    return float(sides.prod() / max(min(a[2:4].prod(), b[2:4].prod()), 1e-6))


def _face(row: NDArray[np.float32]) -> Face:
    points = row[4:14].reshape(5, 2).copy()  # YuNet's order is the picture's: its "right eye" is the person's own
    box = np.array([row[0], row[1], row[0] + row[2], row[1] + row[3]], np.float32)
    return Face(box_px=box, points_px=points, score=float(np.clip(row[14], 0, 1)), pose=five_point_pose(points))
