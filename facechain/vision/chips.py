"""Recognisers that take ArcFace-aligned 112 px chips."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Network, Pixels
from facechain.vision.align import norm_crop
from facechain.vision.runtimes import Spares, opencv_quietly, present

_BATCH = 8  # faces; larger batches gain nothing on a CPU


class ChipNetwork:
    """Aligned RGB chips, (value - centre) / scale, to raw vectors.

    OpenCV's engine costs half (SFace) to nine tenths (w600k_mbf) of onnxruntime's processor time for these
    networks, and takes several faces at once even where the file was exported for one.
    """

    def __init__(self, network: Network) -> None:
        self._networks = Spares(lambda: opencv_quietly(lambda: cv2.dnn.readNetFromONNX(str(present(network.file)))))
        self._centre, self._scale = network.centre, network.scale

    def vectors(self, pixels: Pixels, faces: Sequence[Face]) -> NDArray[np.float32]:
        """(N, D), not normalised, in the faces' order."""
        chips = [norm_crop(pixels, face.points_px) for face in faces]
        batches = [self._run(chips[start : start + _BATCH]) for start in range(0, len(chips), _BATCH)]
        return np.concatenate(batches) if batches else np.zeros((0, 1), np.float32)

    def _run(self, chips: Sequence[Pixels]) -> NDArray[np.float32]:
        blob = cv2.dnn.blobFromImages(chips, 1 / self._scale, mean=(self._centre,) * 3)
        with self._networks.one() as network:
            network.setInput(blob)
            return np.array(network.forward(), np.float32)
