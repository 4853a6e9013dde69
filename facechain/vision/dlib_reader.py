"""The independent judge's eyes: dlib's recogniser, which no engine is trained with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facechain.types import Embedding, Face, Pixels
from facechain.vision.runtimes import present
from facechain.vision.yunet import UPRIGHT_SCORE, Yunet

_SIDE = 3.8  # side of dlib's own box / mean distance of the five points from their centre (median of 62 photos)


class _Models(NamedTuple):
    dlib: Any
    points: Any
    network: Any


class DlibReader:
    """YuNet's boxes, dlib's own five points and 150 px chip, its ResNet (CC0; King 2017): 128 values.

    The vectors keep their length (1.36 to 1.53), for the network was trained on Euclidean distance: the same
    person lies within 0.6. On 61 photos of 7 people, cosines separate as well (same 0.93 and above, strangers
    0.91 and below), but only in that narrow band. Descriptors differ by 0.03 from those on dlib's own boxes.
    """

    recogniser = "dlib_resnet_v1"
    unit_norm = False
    upright_score = UPRIGHT_SCORE

    def __init__(self, yunet: Path, shape_predictor: Path, resnet: Path) -> None:
        self.detect = Yunet(yunet).detect
        self._shape_predictor = shape_predictor
        self._resnet = resnet
        self._models: _Models | None = None
        self._lock = threading.Lock()

    def embed(self, pixels: Pixels, faces: Sequence[Face]) -> tuple[Embedding, ...]:
        if not faces:
            return ()
        pixels = np.ascontiguousarray(pixels)
        with self._lock:
            if self._models is None:
                self._models = _load(self._shape_predictor, self._resnet)
            dlib, points, network = self._models
            shapes = dlib.full_object_detections()
            for face in faces:
                shapes.append(points(pixels, dlib.rectangle(*_square(face))))
            rows = np.array(network.compute_face_descriptor(pixels, shapes), np.float32)
        return tuple(Embedding(vector=row, recogniser=self.recogniser, unit_norm=False) for row in rows)

    def read(self, pixels: Pixels) -> tuple[Face, ...]:
        faces = self.detect(pixels)
        embeddings = self.embed(pixels, faces)
        return tuple(replace(face, embedding=e) for face, e in zip(faces, embeddings, strict=True))


def _square(face: Face) -> tuple[int, int, int, int]:
    """Where dlib's own detector would have seen the face: its point predictor is trained on such boxes."""
    centre = face.points_px.mean(0)
    half = _SIDE / 2 * float(np.linalg.norm(face.points_px - centre, axis=1).mean())
    left, top, right, bottom = (*(centre - half), *(centre + half))
    return round(float(left)), round(float(top)), round(float(right)), round(float(bottom))


def _load(shape_predictor: Path, resnet: Path) -> _Models:
    import dlib  # its compiled module declares no types

    return _Models(
        dlib,
        dlib.shape_predictor(  # pyright: ignore[reportAttributeAccessIssue]
            str(present(shape_predictor))
        ),
        dlib.face_recognition_model_v1(  # pyright: ignore[reportAttributeAccessIssue]
            str(present(resnet))
        ),
    )
