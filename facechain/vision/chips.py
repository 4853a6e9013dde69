"""Recognisers that take ArcFace-aligned 112 px chips."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Pixels
from facechain.vision.align import norm_crop
from facechain.vision.runtimes import opencv_quietly, present

_BATCH = 8  # faces; larger batches gain nothing on a CPU


class ChipNetwork:
    """Aligned RGB chips, (value - centre) / scale, to raw vectors.

    OpenCV's engine costs half (SFace) to nine tenths (w600k_mbf) of onnxruntime's processor time for these
    networks, and takes several faces at once even where the file was exported for one.
    """

    def __init__(self, onnx: Path, centre: float = 0.0, scale: float = 1.0) -> None:
        self._onnx = onnx
        self._centre = centre
        self._scale = scale
        self._net: Any = None
        self._lock = threading.Lock()

    def vectors(self, pixels: Pixels, faces: Sequence[Face]) -> NDArray[np.float32]:
        """(N, D), not normalised, in the faces' order."""
        chips = [norm_crop(pixels, face.points_px) for face in faces]
        batches = [self._run(chips[start : start + _BATCH]) for start in range(0, len(chips), _BATCH)]
        return np.concatenate(batches) if batches else np.zeros((0, 1), np.float32)

    def _run(self, chips: Sequence[Pixels]) -> NDArray[np.float32]:
        blob = cv2.dnn.blobFromImages(chips, 1 / self._scale, mean=(self._centre,) * 3)
        with self._lock:
            if self._net is None:
                self._net = opencv_quietly(lambda: cv2.dnn.readNetFromONNX(str(present(self._onnx))))
            self._net.setInput(blob)
            return self._net.forward().copy()
