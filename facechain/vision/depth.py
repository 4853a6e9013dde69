"""How near every pixel of a picture is: Depth Anything V2, small (Apache-2.0; Yang et al. 2024)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.types import Mask, Pixels
from facechain.vision.runtimes import onnx_session

_SHORT_SIDE_PX = 518
_LONGEST_PX = 1036
_PATCH_PX = 14
_MEAN, _SPREAD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)  # of ImageNet, as trained


class DepthAnything:
    def __init__(self, onnx: Path) -> None:
        self._onnx = onnx
        self._session: Any = None
        self._lock = threading.Lock()

    def nearness(self, pixels: Pixels) -> Mask:
        """0 farthest … 1 nearest in this picture, at its size; no unit of length."""
        height, width = pixels.shape[:2]
        scale = min(_SHORT_SIDE_PX / min(height, width), _LONGEST_PX / max(height, width))
        size = tuple(max(_PATCH_PX, round(side * scale / _PATCH_PX) * _PATCH_PX) for side in (width, height))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        blob = ((small.astype(np.float32) / 255 - _MEAN) / _SPREAD).transpose(2, 0, 1)[None]
        with self._lock:
            if self._session is None:
                self._session = onnx_session(self._onnx)
            found = self._session.run(None, {self._session.get_inputs()[0].name: blob})[0].reshape(size[::-1])
        near = cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        low, high = float(near.min()), float(near.max())
        return np.clip((near - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
