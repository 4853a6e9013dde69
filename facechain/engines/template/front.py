"""What lies in front of a face."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Mask, Part, Parts

_INSIDE = 0.05  # of the face's size: nearer to the outline, skin of the body is the neck
_REACH = 0.3  # how far a hand goes on beyond the outline


def in_front(parts: Parts, outline: NDArray[np.bool_], face_px: float) -> Mask:
    """(H, W): hair, glasses, hats, clothes, and hands, which are the skin of a body where a face should be.

    `outline` (H, W) is the face's, of about `face_px`; all three cover the same pixels.
    """
    masks = parts.masks
    worn = masks[Part.HAIR] + masks[Part.OTHER] + masks[Part.CLOTHES]
    return np.clip(worn + _hands(masks[Part.BODY_SKIN], outline, face_px), 0, 1).astype(np.float32)


def _hands(skin: Mask, outline: NDArray[np.bool_], face_px: float) -> Mask:
    inner = cv2.erode(outline.astype(np.uint8), _disc(_INSIDE * face_px)) > 0
    hand = (inner & (skin > 0.5)).astype(np.uint8)
    if not hand.any():
        return np.zeros(skin.shape, np.float32)
    body = (skin > 0.2).astype(np.uint8)
    steps = 6  # along the hand, not across a gap
    for _ in range(steps):
        hand = np.minimum(cv2.dilate(hand, _disc(_REACH * face_px / steps)), body)
    return np.asarray(skin * cv2.dilate(hand, _disc(0.01 * face_px)), np.float32)


def _disc(radius_px: float) -> NDArray[np.uint8]:
    radius = max(1, round(radius_px))
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)
