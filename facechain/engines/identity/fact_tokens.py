"""FACT's tokens for one person: (2, 16 × photos, context), the negative face first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facechain.engines.identity.align import chip
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.evidence import Evidence
from facechain.engines.identity.perceiver import Perceiver
from facechain.engines.identity.transface import TransFace
from facechain.types import Crop

FACE_PX = 112


class FactTokens:
    def __init__(self, file: Checkpoint, transface: Checkpoint, evidence: Evidence) -> None:
        self.perceiver = Perceiver.of(file.under("local_fac_prj."))
        self.faces = np.stack([head_chip(crop) for crop in evidence.crops])
        self.shares = torch.tensor(evidence.shares)
        self.transface = TransFace.of(dict(transface.tensors))

    @torch.no_grad()
    def tokens(self, most: int, average: bool = False) -> Tensor:
        """Of the `most` best photos, one after the other; with `average` the mean over all photos."""
        pictures = torch.from_numpy((self.faces if average else self.faces[:most]).transpose(0, 3, 1, 2).copy())
        patches = self.transface(pictures)
        each = self.perceiver(patches)
        person = torch.einsum("p,pnw->nw", self.shares, each) if average else each.flatten(0, 1)
        negative = self.perceiver(torch.zeros_like(patches[:1]))[0].repeat(len(person) // each.shape[1], 1)
        return torch.stack([negative, person])


def head_chip(crop: Crop) -> np.ndarray:
    """The aligned head on black, (112, 112, 3) float32 in -1…1."""
    head = (crop.pixels * crop.head_mask[..., None]).astype(np.uint8)
    return (chip(head, crop.face.points_px, FACE_PX) / np.float32(127.5) - 1).astype(np.float32)
