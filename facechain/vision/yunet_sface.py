"""The default reader: YuNet finds faces, SFace tells them apart, both through OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from facechain.types import Embedding, Face, Network, Pixels
from facechain.vision.chips import ChipNetwork
from facechain.vision.yunet import UPRIGHT_SCORE, Yunet


class YunetSface:
    """YuNet with SFace 2021dec (Apache-2.0; Zhong et al. 2021): 128 values, unit length."""

    recogniser = "sface_2021dec"
    unit_norm = True
    upright_score = UPRIGHT_SCORE

    def __init__(self, yunet: Path, sface: Path) -> None:
        self.detect = Yunet(yunet).detect
        self.network = Network(file=sface)  # takes 0…255, and equals FaceRecognizerSF to 1e-5
        self._network = ChipNetwork(self.network)

    def embed(self, pixels: Pixels, faces: Sequence[Face]) -> tuple[Embedding, ...]:
        raw = self._network.vectors(pixels, faces)
        unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        return tuple(Embedding(vector=vector, recogniser=self.recogniser) for vector in unit)

    def read(self, pixels: Pixels) -> tuple[Face, ...]:
        faces = self.detect(pixels)
        embeddings = self.embed(pixels, faces)
        return tuple(replace(face, embedding=e) for face, e in zip(faces, embeddings, strict=True))
