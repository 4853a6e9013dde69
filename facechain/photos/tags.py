"""Traits seen in an accepted photo. "unknown" is an answer; gender and ethnicity are not asked for.

Every trait is a small function of what the models saw; `TRAITS` names the values it may take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Face, Mask, Part, Parts, Pixels, Points, Pose, Tag

UNKNOWN = "unknown"

TRAITS: Mapping[str, tuple[str, ...]] = {
    "age": ("child", "teen", "adult", "senior"),
    "expression": ("neutral", "smile", "laugh", "open mouth", "surprise", "eyes closed"),
    "pose": ("frontal", "half left", "half right", "left", "right", "up", "down"),
    "glasses": ("yes",),
    "hair_colour": ("black", "brown", "blond", "red", "grey", "white"),
    "hair_length": ("short", "medium", "long"),
    "background": ("plain light", "plain dark", "busy light", "busy dark"),
}

# First and last year of each band.
AGE_BANDS: Mapping[str, tuple[int, int]] = {"child": (0, 12), "teen": (13, 17), "adult": (18, 64), "senior": (65, 120)}


class AgeReader(Protocol):
    def ages(self, pixels: Pixels, face: Face) -> NDArray[np.float32]:
        """Probability of each year of age, (N,), from 0 on."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """What the models saw of one crop; everything in crop pixels."""

    pixels: Pixels
    mesh_px: Points  # (478, 2)
    expressions: Mapping[str, float]
    pose: Pose
    shown: Mask  # 1 where the crop shows the photo
    parts: Parts | None
    ages: NDArray[np.float32] | None = None


def tags(sight: Sight) -> tuple[Tag, ...]:
    """One tag for every name in TRAITS, in that order."""
    found = {
        "age": _age(sight.ages),
        "expression": _expression(sight.expressions),
        "pose": _pose(sight.pose),
        "glasses": _glasses(sight),
        "hair_colour": _hair_colour(sight),
        "hair_length": _hair_length(sight),
        "background": _background(sight),
    }
    return tuple(Tag(name=name, value=found[name][0], confidence=round(found[name][1], 2)) for name in TRAITS)


_Seen = tuple[str, float]  # value, confidence
_CANNOT_TELL: _Seen = (UNKNOWN, 0.0)


def _age(ages: NDArray[np.float32] | None) -> _Seen:
    """The band that holds nearly all of the probability; age models are far too sure of themselves."""
    if ages is None:
        return _CANNOT_TELL
    shares = {band: float(ages[first : last + 1].sum()) for band, (first, last) in AGE_BANDS.items()}
    band = max(shares, key=lambda name: shares[name])
    return (band, min(1.0, shares[band])) if shares[band] >= 0.8 else (UNKNOWN, min(1.0, shares[band]))


def _expression(seen: Mapping[str, float]) -> _Seen:
    def both(name: str) -> float:
        return (seen.get(f"{name}Left", 0.0) + seen.get(f"{name}Right", 0.0)) / 2

    smile, jaw, closed = both("mouthSmile"), seen.get("jawOpen", 0.0), both("eyeBlink")
    startled = min(jaw * 2, max(both("eyeWide"), seen.get("browInnerUp", 0.0)))
    strongest = max(smile, jaw * 2, closed * 0.8)
    if closed > 0.6 and smile < 0.4:
        return "eyes closed", closed
    if smile > 0.4:
        return ("laugh", min(smile, jaw * 2.5)) if jaw > 0.2 else ("smile", min(1.0, smile + 0.2))
    if startled > 0.5:
        return "surprise", startled
    if jaw > 0.25:
        return "open mouth", min(1.0, jaw * 2)
    return ("neutral", 1 - strongest) if strongest < 0.4 else (UNKNOWN, strongest)


def _pose(pose: Pose) -> _Seen:
    """Left and right are the picture's. Confidence falls towards the border between two words."""
    side = "left" if pose.yaw_deg < 0 else "right"
    yaw, pitch = abs(pose.yaw_deg), abs(pose.pitch_deg)
    if pitch > 20 and pitch > yaw:
        return "up" if pose.pitch_deg > 0 else "down", min(1.0, 0.5 + (pitch - 20) / 20)
    if yaw < 12:
        return "frontal", min(1.0, 0.5 + (12 - yaw) / 16)
    if yaw < 32:
        return f"half {side}", min(1.0, 0.5 + min(yaw - 12, 32 - yaw) / 16)
    return side, min(1.0, 0.5 + (yaw - 32) / 16)


def _glasses(sight: Sight) -> _Seen:
    """The parser marks frames and dark lenses as worn things; fine rims escape it, so "no" is never said."""
    if sight.parts is None:
        return _CANNOT_TELL
    left, right = sight.mesh_px[33], sight.mesh_px[263]
    half = max(2, round(0.25 * float(np.linalg.norm(right - left))))
    top = max(0, round(float(left[1] + right[1]) / 2) - half)
    band = sight.parts.masks[Part.OTHER][top : top + 2 * half, max(0, round(left[0])) : max(0, round(right[0]))]
    share = float(band.mean()) if band.size else 0.0
    return ("yes", min(1.0, 0.5 + 2 * share)) if share > 0.08 else (UNKNOWN, share)


def _hair(sight: Sight) -> np.ndarray | None:
    """Pixels that are surely hair, (H, W) bool; None when too little of it, or of the head, is in the photo."""
    if sight.parts is None or _head_shown(sight) < 0.9:
        return None
    hair = (sight.parts.masks[Part.HAIR] > 0.7) & (sight.shown > 0.5)
    face = float((sight.parts.masks[Part.FACE_SKIN] > 0.5).sum())
    return hair if hair.sum() > max(100.0, 0.06 * face) else None


def _head_shown(sight: Sight) -> float:
    """Share of the photo in the box that holds a head: half a face's height above the face, a third beside it."""
    left, top = sight.mesh_px.min(0)
    right, bottom = sight.mesh_px.max(0)
    side = (right - left) / 3
    rows = slice(max(0, round(top - (bottom - top) / 2)), max(1, round(bottom)))
    return float(sight.shown[rows, max(0, round(left - side)) : max(1, round(right + side))].mean())


def _hair_colour(sight: Sight) -> _Seen:
    """The median colour in CIELAB; a coloured light or deep shadow makes this a guess, hence modest confidences."""
    hair = _hair(sight)
    if hair is None:
        return _CANNOT_TELL
    core = cv2.erode(hair.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    lab = cv2.cvtColor(sight.pixels[core if core.sum() > 100 else hair][None], cv2.COLOR_RGB2LAB)[0].astype(float)
    light, a, b = np.median(lab, 0) - (0, 128, 128)
    light /= 2.55
    chroma = float(np.hypot(a, b))
    if light < 20:
        return "black", min(0.9, 0.5 + (20 - light) / 20)
    if chroma < 7:
        return ("white" if light > 70 else "grey", 0.6) if light > 35 else (UNKNOWN, 0.3)
    if a > 14 and a > 0.6 * b:
        return "red", 0.6
    if light > 52 and b > 10:
        return "blond", 0.6
    return ("brown", 0.6) if light < 48 else (UNKNOWN, 0.3)


def _hair_length(sight: Sight) -> _Seen:
    """How far hair hangs beside the face: above the mouth short, to the chin medium, below it long."""
    hair = _hair(sight)
    if hair is None:
        return _CANNOT_TELL
    mouth, chin, top = (float(sight.mesh_px[point, 1]) for point in (14, 152, 10))
    height = max(chin - top, 1.0)
    rows = np.arange(len(hair))[:, None]
    enough = 0.015 * height * height  # a few stray pixels are a beard or a shadow
    # A beard lies between the corners of the jaw; hair hangs outside them.
    jaw_left, jaw_right = float(sight.mesh_px[172, 0]), float(sight.mesh_px[397, 0])
    columns = np.arange(hair.shape[1])[None]
    beside = hair & ((columns < jaw_left) | (columns > jaw_right))
    if (beside & (rows > chin + 0.15 * height)).sum() > enough:
        return "long", 0.8
    if (beside & (rows > mouth)).sum() > enough:
        return "medium", 0.6
    return "short", 0.7


def _background(sight: Sight) -> _Seen:
    if sight.parts is None:
        return _CANNOT_TELL
    where = (sight.parts.masks[Part.BACKGROUND] > 0.9) & (sight.shown > 0.5)
    where = cv2.erode(where.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    if where.mean() < 0.04:
        return _CANNOT_TELL
    grey = cv2.cvtColor(sight.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8
    busy = float(np.hypot(across, down)[where].mean())
    level = float(np.median(grey[where]))
    words = f"{'busy' if busy > 3.0 else 'plain'} {'light' if level > 110 else 'dark'}"
    return words, float(min(0.95, 0.5 + min(abs(busy - 3.0) / 4, abs(level - 110) / 110)))
