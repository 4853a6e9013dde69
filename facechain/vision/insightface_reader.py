"""ArcFace embeddings as InsightFace makes them: with its package, or with two ONNX files alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facechain.errors import EngineError, PackMissing
from facechain.types import Embedding, Face, Network, Pixels
from facechain.vision.align import norm_crop
from facechain.vision.chips import ChipNetwork
from facechain.vision.pose import five_point_pose
from facechain.vision.scrfd import UPRIGHT_SCORE, Scrfd
from facechain.vision.yunet import UPRIGHT_SCORE as YUNET_UPRIGHT_SCORE
from facechain.vision.yunet import Yunet

_DET_SIZE = (640, 640)  # InsightFace 2 would otherwise join detections at 128 and 640

_INSTALL = (
    "Install it without a second OpenCV: echo 'opencv-python ; sys_platform == \"never\"' > overrides.txt && "
    "uv pip install --override overrides.txt 'insightface==2.1' 'scikit-image<2.2'"
)


class ScrfdArcface:
    """SCRFD and an ArcFace network without the insightface package: 512 values; non-commercial weights.

    Equals FaceAnalysis on the same files (cosine at least 0.9999 on the demo photos, insightface 2.1).
    """

    upright_score = UPRIGHT_SCORE

    def __init__(self, scrfd: Path, arcface: Path, unit_norm: bool = True) -> None:
        self.recogniser = arcface.stem
        self.unit_norm = unit_norm
        self.detect = Scrfd(scrfd).detect
        self.network = Network(file=arcface, centre=127.5, scale=127.5)
        self._network = ChipNetwork(self.network)

    def embed(self, pixels: Pixels, faces: Sequence[Face]) -> tuple[Embedding, ...]:
        return _embeddings(self._network.vectors(pixels, faces), self.recogniser, self.unit_norm)

    def read(self, pixels: Pixels) -> tuple[Face, ...]:
        faces = self.detect(pixels)
        embeddings = self.embed(pixels, faces)
        return tuple(replace(face, embedding=e) for face, e in zip(faces, embeddings, strict=True))


class YunetArcface(ScrfdArcface):
    """The same with YuNet's boxes and points, for an ArcFace network that comes without a detector of its own."""

    upright_score = YUNET_UPRIGHT_SCORE

    def __init__(self, yunet: Path, arcface: Path, recogniser: str) -> None:
        super().__init__(yunet, arcface)
        self.recogniser = recogniser
        self.detect = Yunet(yunet).detect


class InsightfaceReader:
    """Any InsightFace pack folder through `insightface.app.FaceAnalysis` (optional package, non-commercial weights).

    `recogniser` is the stem of the pack's recognition file: glintr100 in antelopev2, w600k_r50 in buffalo_l.
    With `unit_norm` False the vectors keep their length, as InstantID and PuLID expect.
    """

    upright_score = UPRIGHT_SCORE

    def __init__(self, folder: Path, recogniser: str, unit_norm: bool = True) -> None:
        self.recogniser = recogniser
        self.unit_norm = unit_norm
        self._folder = folder
        self._app: Any = None
        self._lock = threading.Lock()

    def detect(self, pixels: Pixels) -> tuple[Face, ...]:
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        with self._lock:
            boxes, points = self._analysis().det_model.detect(bgr)
        faces = [_face(box, five) for box, five in zip(boxes, points, strict=True)]
        return tuple(sorted(faces, key=lambda face: (float(face.box_px[0] + face.box_px[2]), float(face.box_px[1]))))

    def embed(self, pixels: Pixels, faces: Sequence[Face]) -> tuple[Embedding, ...]:
        if not faces:
            return ()
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        with self._lock:
            network = self._analysis().models["recognition"]
            chips = [norm_crop(bgr, face.points_px, network.input_size[0]) for face in faces]  # equal to its own
            raw = network.get_feat(chips)
        return _embeddings(raw, self.recogniser, self.unit_norm)

    def read(self, pixels: Pixels) -> tuple[Face, ...]:
        faces = self.detect(pixels)
        embeddings = self.embed(pixels, faces)
        return tuple(replace(face, embedding=e) for face, e in zip(faces, embeddings, strict=True))

    def _analysis(self) -> Any:
        if self._app is None:
            folder = pack_folder(self._folder, f"{self.recogniser}.onnx")
            try:
                from insightface.app import FaceAnalysis  # pyright: ignore[reportMissingImports]
            except ImportError:
                raise EngineError("The insightface package is not installed.", _INSTALL) from None
            wanted = ["detection", "recognition"]
            app = FaceAnalysis(name=str(folder), allowed_modules=wanted, providers=["CPUExecutionProvider"])
            app.prepare(ctx_id=-1, det_size=_DET_SIZE)
            self._app = app
        return self._app


def pack_folder(folder: Path, file: str) -> Path:
    """Where the pack's files lie: antelopev2's archive unpacks into a second folder of the same name."""
    for place in (folder, folder / folder.name):
        if (place / file).is_file():
            return place
    raise PackMissing(f"{file} is not in {folder}.", f"Run: facechain packs fetch {folder.name}")


def _face(box: NDArray[np.float32], points: NDArray[np.float32]) -> Face:
    five = np.asarray(points, np.float32)
    return Face(box_px=np.asarray(box[:4], np.float32), points_px=five, score=float(box[4]), pose=five_point_pose(five))


def _embeddings(raw: NDArray[np.float32], recogniser: str, unit_norm: bool) -> tuple[Embedding, ...]:
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True) if unit_norm else raw
    return tuple(Embedding(vector=vector, recogniser=recogniser, unit_norm=unit_norm) for vector in vectors)
