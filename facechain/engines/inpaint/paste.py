"""The painted crop joined to the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Mask, Pixels

_REACH = 0.08  # of the side: how far the autoencoder's drift is averaged


def pasted(below: Pixels, painted: Pixels, mask: Mask, kept: NDArray[np.bool_], shown: Pixels) -> Pixels:
    """`below` with `painted` inside `mask`; where the mask is 0 it keeps its very bits. All (H, W, 3) or (H, W).

    `kept` is what the base had to leave as it was `shown` it: how its colours came out there tells how far they
    drifted through the autoencoder, and that much is taken off around and inside the face.
    """
    true = painted.astype(np.float32) + _drift(shown, painted, kept)
    mixed = below.astype(np.float32) + (true - below) * mask[..., None]
    inside = (mask > 0)[..., None]
    return np.where(inside, np.clip(np.round(mixed), 0, 255), below).astype(np.uint8)


def _drift(shown: Pixels, painted: Pixels, kept: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(H, W, 3) smooth difference of what was shown to what came back, carried on into what was painted."""
    if not kept.any():
        return np.zeros(shown.shape, np.float32)
    side = 64  # it is smooth, so a small copy will do
    small = (side, side)
    known = kept.astype(np.float32)
    lost = (shown.astype(np.float32) - painted) * known[..., None]
    lost = cv2.resize(lost, small, interpolation=cv2.INTER_AREA)
    share = cv2.resize(known, small, interpolation=cv2.INTER_AREA)
    sigma = _REACH * side
    near = cv2.GaussianBlur(share, (0, 0), sigma)[..., None]
    overall = lost.sum((0, 1)) / share.sum()
    smooth = (cv2.GaussianBlur(lost, (0, 0), sigma) + 0.02 * overall) / (near + 0.02)
    return cv2.resize(smooth, shown.shape[1::-1], interpolation=cv2.INTER_LINEAR)
