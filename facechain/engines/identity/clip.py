"""Pictures as CLIP image towers want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from facechain.types import Pixels

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(pictures: Sequence[Pixels], size_px: int) -> Any:
    """Pictures, cut to the middle square and resized -> (N, 3, size, size) float32 tensor, normalised as CLIP was."""
    import torch

    squares = []
    for picture in pictures:
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(picture[top : top + side, left : left + side])
        squares.append(np.asarray(square.resize((size_px, size_px), Image.Resampling.BICUBIC), np.float32) / 255)
    normal = (np.stack(squares) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())
