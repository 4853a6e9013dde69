"""Tells pictures that are not safe to show."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facechain.types import Pixels
from facechain.vision.runtimes import onnx_session

_MEAN_BGR = np.array([104, 117, 123], np.float32)


class OpenNsfw:
    """Yahoo's open_nsfw (BSD-2-Clause; 2016): nudity only, a coarse net that misses and errs."""

    def __init__(self, onnx: Path) -> None:
        self._onnx = onnx
        self._session: Any = None
        self._lock = threading.Lock()

    def unsafe(self, pixels: Pixels) -> float:
        """Probability, 0…1. Yahoo calls below 0.2 safe and above 0.8 unsafe."""
        with self._lock:
            if self._session is None:
                self._session = onnx_session(self._onnx)
        blob = _as_trained(pixels)[None, :, :, ::-1] - _MEAN_BGR
        return float(self._session.run(None, {self._session.get_inputs()[0].name: blob})[0][0, 1])


def _as_trained(pixels: Pixels) -> np.ndarray:
    """(224, 224, 3) RGB float32: the middle of a 256 px copy, through JPEG as every training picture was."""
    small = Image.fromarray(pixels).resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    with io.BytesIO() as jpeg:
        small.save(jpeg, "JPEG")
        return np.asarray(Image.open(jpeg), np.float32)
