"""How old a face looks: a probability for every year."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Pixels
from facechain.vision.align import similarity
from facechain.vision.runtimes import onnx_session

_CHIP_PX = 64
# Eye centres of dlib's mean face, 0…1, and the room around that face in a chip (dlib, image_transforms).
_EYES = np.array([[0.2273, 0.2214], [0.7528, 0.2212]])
_ROOMS = (0.15, 0.2, 0.25)  # looks at slightly different sizes, each also mirrored
_MEAN_RGB = np.array([122.782, 117.001, 104.298], np.float32)  # dlib's input_rgb_image


class AgeNet:
    """dlib's age network (CC0, Cydral Technology) as ONNX; 81 classes, one a year from 0 to 80.

    One look is far too sure of itself, so six are averaged: each face at three sizes, and mirrored. Still off by
    5 to 10 years for many faces; use bands, and doubt.
    """

    def __init__(self, onnx: Path) -> None:
        self._onnx = onnx
        self._session: Any = None
        self._lock = threading.Lock()

    def ages(self, pixels: Pixels, face: Face) -> NDArray[np.float32]:
        """(81,) probability of each year; the last stands for 80 and older."""
        chips = np.stack([_chip(pixels, face, room) for room in _ROOMS])
        looks = np.concatenate([chips, chips[:, :, ::-1]]).astype(np.float32)
        values = np.ascontiguousarray(((looks - _MEAN_RGB) / 256).transpose(0, 3, 1, 2))
        with self._lock:
            if self._session is None:
                self._session = onnx_session(self._onnx)
            return self._session.run(None, {"images": values})[0].mean(0)


def _chip(pixels: Pixels, face: Face, room: float) -> Pixels:
    """The face by its eyes, (64, 64, 3); black where the picture ends, as the network was trained."""
    eyes = (_EYES + room) / (1 + 2 * room) * _CHIP_PX
    matrix = similarity(face.points_px[:2], eyes)
    finer = int(np.clip(round(1 / float(np.hypot(matrix[0, 0], matrix[0, 1]))), 1, 16))
    side = _CHIP_PX * finer
    chip = cv2.warpAffine(pixels, matrix * finer, (side, side), flags=cv2.INTER_LINEAR)
    return cv2.resize(chip, (_CHIP_PX, _CHIP_PX), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
