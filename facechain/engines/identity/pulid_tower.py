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
from facechain.protocols import Parser
from facechain.types import Crop, Part, Parts, Pixels

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue


# Rows and columns of the aligned head where glasses lie: from the brows to the cheekbones, as wide as the face.
GLASSES_PX = (slice(190, 310), slice(100, 412))


def head_picture(crop: Crop, parts: Parts | None = None) -> Pixels:
    """(512, 512, 3): the aligned head in grey, everything that is neither hair nor face white.

    Glasses belong to the face; what else is worn, such as hats and earrings, is background, as far as `parts` of the
    crop's pixels tell.
    """
    points = crop.face.points_px
    head = head_512(crop.head_mask, points) > 0.5
    if parts is not None:
        worn = head_512(parts.masks[Part.OTHER], points) > 0.5
        worn[GLASSES_PX] = False
        head &= ~worn
    grey = head_512(crop.pixels, points).astype(np.float32) @ GREY
    return np.where(head, grey.round(), 255)[..., None].repeat(3, axis=2).astype(np.uint8)


class FaceTower:
    """The published EVA02-CLIP file, opened for the photos of one person; `parser` tells what they wear."""

    def __init__(self, path: Path, parser: Parser | None = None) -> None:
        self.parser = parser
        self.net = EvaTower.of(open_checkpoint(path, kinds=("eva02-clip",), layout=None).under("visual."))

    @torch.no_grad()
    def __call__(self, crops: Sequence[Crop]) -> tuple[Tensor, Tensor]:
        """(photos, 768) class features and (5, photos, 577, 1024) hidden levels."""
        heads = [head_picture(crop, self._parts(crop)) for crop in crops]
        return self.net(clip_pixels(heads, self.net.image_px))

    def _parts(self, crop: Crop) -> Parts | None:
        return None if self.parser is None else self.parser.parts(crop.pixels, crop.face)
