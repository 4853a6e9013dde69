"""What each pixel of a portrait belongs to: hair, face, body, clothes, the rest."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Mask, Part, Parts, Pixels
from facechain.vision.runtimes import LiteModel, present

_MODEL_PX = 256
_WORK_PX = 512  # side at which edges are found; the picture's own pixels are filtered with what was found
_HEAD = 2.4  # crop side / face height
_SURER = 2.0  # the network leaves each part some 2 % everywhere; sharpened, that haze is gone and edges stay soft
_FEATHER = 0.15  # share of the crop over which it fades into the look at the whole picture

# The network's own order.
_PARTS = (Part.BACKGROUND, Part.HAIR, Part.BODY_SKIN, Part.FACE_SKIN, Part.CLOTHES, Part.OTHER)


class SelfieParser:
    """MediaPipe's selfie multiclass model (Apache-2.0), refined to the picture's own edges."""

    def __init__(self, tflite: Path) -> None:
        self._tflite = tflite
        self._model: LiteModel | None = None
        self._lock = threading.Lock()

    def parts(self, pixels: Pixels, face: Face | None = None) -> Parts:
        """Soft part masks at the picture's size; around `face` from a look at the head alone."""
        height, width = pixels.shape[:2]
        soft = _refined(pixels, self._look(pixels))
        if face is not None:
            side = max(2, round(_HEAD * face.height_px))
            to_crop = _head_crop(face, side)
            crop = np.asarray(cv2.warpAffine(pixels, to_crop, (side, side), borderMode=cv2.BORDER_REPLICATE), np.uint8)
            head = _refined(crop, self._look(crop))
            back, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (width, height)
            share = cv2.warpAffine(_fading(side), to_crop, size, flags=back)
            for whole, near in zip(soft, head, strict=True):
                whole += share * (cv2.warpAffine(near, to_crop, size, flags=back) - whole)
        total = np.maximum(np.sum(soft, 0), 1e-6)
        return Parts(masks={part: mask / total for part, mask in zip(_PARTS, soft, strict=True)})

    def _look(self, pixels: Pixels) -> NDArray[np.float32]:
        """(h, w, 6) probabilities, the longer of h and w being 256 px; a stretched face would be misread."""
        height, width = pixels.shape[:2]
        scale = _MODEL_PX / max(height, width)
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        small = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
        top, left = (_MODEL_PX - h) // 2, (_MODEL_PX - w) // 2
        square = cv2.copyMakeBorder(
            small, top, _MODEL_PX - h - top, left, _MODEL_PX - w - left, borderType=cv2.BORDER_REPLICATE
        )
        with self._lock:
            if self._model is None:
                self._model = LiteModel(present(self._tflite).read_bytes())
            logits = self._model(square[None].astype(np.float32) / 127.5 - 1)[0][0, top : top + h, left : left + w]
        odds = np.exp(_SURER * (logits - logits.max(-1, keepdims=True)))
        return odds / odds.sum(-1, keepdims=True)


def _head_crop(face: Face, side: int) -> NDArray[np.float64]:
    """Picture to an upright square of `side` px around the head, hair included, at the picture's scale."""
    roll = math.radians(face.pose.roll_deg)
    turn = np.array([[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]])
    centre = (face.box_px[:2] + face.box_px[2:]) / 2 + turn.T @ (0.0, -0.1 * face.height_px)
    return np.hstack([turn, ((side - 1) / 2 - turn @ centre)[:, None]])


def _fading(side: int) -> NDArray[np.float32]:
    """1 in the middle of a square, falling smoothly to 0 at its border."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) / max(1.0, _FEATHER * side)
    ramp = np.clip(distance, 0, 1).astype(np.float32)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.minimum.outer(ramp, ramp)


def _refined(pixels: Pixels, probabilities: NDArray) -> list[Mask]:
    """Each part's mask at the picture's size, its edges drawn to those of the picture.

    The guided filter with a colour guide (He, Sun and Tang 2013): in every small window a mask is a linear
    function of the colour. The functions are fitted on a reduced copy (fast guided filter, 2015).
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, _WORK_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    guide = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    soft = cv2.resize(probabilities, size, interpolation=cv2.INTER_LINEAR)
    radius = max(1, round(2 * max(size) / _MODEL_PX))
    slopes, offsets = _fit(guide, soft, radius, 5e-4)
    colours = pixels.astype(np.float32) / 255
    masks = []
    for part in range(soft.shape[-1]):
        slope = cv2.resize(slopes[..., part], (width, height), interpolation=cv2.INTER_LINEAR)
        mask = cv2.resize(offsets[..., part], (width, height), interpolation=cv2.INTER_LINEAR)
        masks.append(np.clip(mask + np.einsum("hwc,hwc->hw", slope, colours), 0, 1, dtype=np.float32))
    return masks


def _fit(guide: NDArray, soft: NDArray, radius: int, epsilon: float) -> tuple[NDArray, NDArray]:
    """Smoothed slopes (h, w, 3, parts) and offsets (h, w, parts) of mask = slope · colour + offset."""

    def mean(values: NDArray) -> NDArray:
        channels = values.reshape(*values.shape[:2], -1)
        return cv2.blur(channels, (2 * radius + 1, 2 * radius + 1)).reshape(values.shape)

    colour, level = mean(guide), mean(soft)
    spread = mean(guide[..., :, None] * guide[..., None, :]) - colour[..., :, None] * colour[..., None, :]
    shared = mean(guide[..., :, None] * soft[..., None, :]) - colour[..., :, None] * level[..., None, :]
    slopes = _inverse(spread + epsilon * np.eye(3, dtype=np.float32)) @ shared
    offsets = level - np.einsum("hwc,hwcp->hwp", colour, slopes)
    return mean(slopes), mean(offsets)


def _inverse(m: NDArray) -> NDArray:
    """Of symmetric 3 by 3 matrices, (…, 3, 3), by cofactors: far quicker than a general solver over a picture."""
    a, b, c = m[..., 0, :], m[..., 1, :], m[..., 2, :]
    adjugate = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], -1)
    return adjugate / np.einsum("...c,...c->...", a, adjugate[..., 0])[..., None, None]
