"""Cuts people out of a picture."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.types import Mask, Pixels
from facechain.vision.runtimes import onnx_session

_SHORT_SIDE_PX = 512
_LONGEST_PX = 1536  # of the copy the network sees, so that panoramas stay affordable


class Modnet:
    """MODNet (Apache-2.0; Ke et al. 2022), for portraits."""

    def __init__(self, onnx: Path) -> None:
        self._onnx = onnx
        self._session: Any = None
        self._lock = threading.Lock()

    def matte(self, pixels: Pixels) -> Mask:
        """Alpha of the people, at the picture's size."""
        height, width = pixels.shape[:2]
        scale = min(_SHORT_SIDE_PX / min(height, width), _LONGEST_PX / max(height, width))
        size = tuple(max(32, round(side * scale / 32) * 32) for side in (width, height))
        shrinks = scale < 1
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        with self._lock:
            if self._session is None:
                self._session = onnx_session(self._onnx)
        blob = cv2.dnn.blobFromImage(small, 1 / 127.5, mean=(127.5,) * 3)
        alpha = self._session.run(None, {self._session.get_inputs()[0].name: blob})[0][0, 0]
        alpha = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA if not shrinks else cv2.INTER_CUBIC)
        return np.clip(alpha, 0, 1).astype(np.float32)
