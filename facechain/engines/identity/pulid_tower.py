"""What PuLID sees of a face: the head alone, grey on white, through EVA02-CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facechain.engines.identity.align import head_512
from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.clip import clip_pixels
from facechain.engines.identity.eva_net import EvaTower
from facechain.types import Crop, Pixels

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue


def head_picture(crop: Crop) -> Pixels:
    """(512, 512, 3): the aligned head in grey, everything that is neither hair nor face white."""
    points = crop.face.points_px
    head = head_512(crop.head_mask, points)[..., None] > 0.5
    grey = head_512(crop.pixels, points).astype(np.float32) @ GREY
    return np.where(head, grey.round()[..., None], 255).repeat(3, axis=2).astype(np.uint8)


class FaceTower:
    """The published EVA02-CLIP file, opened for the photos of one person."""

    def __init__(self, path: Path) -> None:
        self.net = EvaTower.of(open_checkpoint(path, kinds=("eva02-clip",), layout=None).under("visual."))

    @torch.no_grad()
    def __call__(self, crops: Sequence[Crop]) -> tuple[Tensor, Tensor]:
        """(photos, 768) class features and (5, photos, 577, 1024) hidden levels."""
        return self.net(clip_pixels([head_picture(crop) for crop in crops], self.net.image_px))
