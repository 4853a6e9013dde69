"""How good a photo of a face is, and what to tell the person when it is not good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from facechain.photos.crop import Framing, cut, inside, place
from facechain.types import Face, Mesh, Part, Parts, Pixels, Points, Reason

# Sharpness and light are read from a chip in which the face's longer side is 112 px (never enlarged).
_CHIP = Framing(face_share=0.8, centre_down=0.5, side_px=140, max_enlarge=1.0)

# Landmarks in MediaPipe's mesh.
_SKIN_POINTS = 468  # the ones behind are irises
_BROWS, _EYES, _NOSE_TIP, _CHIN = (105, 334), (33, 263), 1, 152


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a photo must reach.

    Set on 62 real photos (7 portraits, 55 press photos of 150 px) and versions of them that were blurred, darkened,
    brightened or covered: every original passes but two whose face is cut by the picture's edge, and a Gaussian
    blur of 1.5 px at 112 px does not.
    """

    min_face_px: float = 64  # longer side of the face
    min_sharpness: float = 0.035
    min_highlight: float = 60
    max_shadow: float = 165
    max_burnt: float = 0.30
    min_contrast: float = 25
    max_yaw_deg: float = 45
    max_pitch_deg: float = 35
    min_visible: float = 0.85
    min_clear: float = 0.60


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Look:
    """One face, measured. Light is told by the brightest and darkest parts, so that dark skin is not "too dark"."""

    face_px: float  # longer side of the face box in the photo
    sharpness: float  # variance of the Laplacian / variance of the grey values, at 112 px
    highlight: float  # grey value that 5 % of the face exceed, 0…255
    shadow: float  # grey value that 5 % of the face stay below, 0…255
    burnt: float  # share of the face above 250
    yaw_deg: float
    pitch_deg: float
    visible: float  # share of the face inside the picture
    clear: float = 1.0  # share of eyes or of mouth and chin, whichever is less, that is skin, beard or fringe


def measure(pixels: Pixels, face: Face, mesh: Mesh) -> Look:
    """Everything that needs no part masks."""
    placing = place(face, _CHIP)
    chip = cut(pixels, placing)
    in_photo = inside(pixels.shape, placing) > 0.99
    oval = _oval(placing.apply(mesh.points_px[:_SKIN_POINTS, :2]), chip.shape[:2])
    core = cv2.erode((oval & in_photo).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if core.sum() < 50:
        core = oval
    grey = cv2.cvtColor(chip, cv2.COLOR_RGB2GRAY).astype(np.float32)
    values = grey[core]
    shadow, highlight = np.percentile(values, (5, 95))
    return Look(
        face_px=max(face.width_px, face.height_px),
        sharpness=float(cv2.Laplacian(grey, cv2.CV_32F)[core].var() / (values.var() + 1)),
        highlight=float(highlight),
        shadow=float(shadow),
        burnt=float((values > 250).mean()),
        yaw_deg=mesh.pose.yaw_deg,
        pitch_deg=mesh.pose.pitch_deg,
        visible=float((oval & in_photo).sum() / max(oval.sum(), 1)),
    )


def clear_share(parts: Parts, mesh_px: Points) -> float:
    """How much of the eyes, or of mouth and chin, whichever is less, is face and not scarf, hand or sunglasses.

    `mesh_px` (478, 2) and the masks share one picture.
    """
    shown = parts.masks[Part.FACE_SKIN] + parts.masks[Part.HAIR]
    oval = _oval(mesh_px[:_SKIN_POINTS], shown.shape)
    rows = np.arange(shown.shape[0])[:, None]
    brow, eye = (mesh_px[list(points), 1].mean() for points in (_BROWS, _EYES))
    eyes = oval & (rows > brow) & (rows < 2 * eye - brow)
    mouth = oval & (rows > mesh_px[_NOSE_TIP, 1])
    return min((float(shown[region].mean()) for region in (eyes, mouth) if region.any()), default=0.0)


def _oval(points: Points, shape: tuple[int, ...]) -> np.ndarray:
    hull = cv2.convexHull(np.round(points).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 1) > 0


def fault(look: Look, limits: Limits = LIMITS) -> Reason | None:
    """The first thing that makes the photo unusable; None when it is usable."""
    dim = look.highlight - look.shadow < limits.min_contrast
    middle = (look.highlight + look.shadow) / 2
    checks = (
        (Reason.TOO_SMALL, look.face_px < limits.min_face_px),
        (Reason.COVERED, look.visible < limits.min_visible),
        (Reason.TURNED_AWAY, abs(look.yaw_deg) > limits.max_yaw_deg or abs(look.pitch_deg) > limits.max_pitch_deg),
        (Reason.TOO_DARK, look.highlight < limits.min_highlight or (dim and middle < 128)),
        (
            Reason.TOO_BRIGHT,
            look.burnt > limits.max_burnt or look.shadow > limits.max_shadow or (dim and middle >= 128),
        ),
        (Reason.BLURRED, look.sharpness < limits.min_sharpness),
        (Reason.COVERED, look.clear < limits.min_clear),
    )
    return next((reason for reason, failed in checks if failed), None)


def score(look: Look, limits: Limits = LIMITS) -> float:
    """Quality 0…1: the geometric mean of size, sharpness, light, pose and clearness, each 1 when it cannot matter."""
    parts = (
        min(1.0, look.face_px / 224),
        min(1.0, look.sharpness / (4 * limits.min_sharpness)),
        min(1.0, look.highlight / (2 * limits.min_highlight)) * (1 - look.burnt),
        max(0.0, np.cos(np.radians(look.yaw_deg)) * np.cos(np.radians(look.pitch_deg))),
        look.visible * look.clear,
    )
    return float(np.clip(np.prod(parts), 0, 1) ** (1 / len(parts)))


ADVICE: Mapping[Reason, str] = {
    Reason.UNREADABLE: "This file cannot be read; copy it again from the camera or the original.",
    Reason.NO_FACE: "No face was found; use a photo in which the face is large and seen from the front.",
    Reason.SEVERAL_PEOPLE: "Several people are in it and it is not clear who is meant; cut the photo to one person.",
    Reason.TOO_SMALL: "The face is too small; come closer or use the original instead of a reduced copy.",
    Reason.BLURRED: "The face is blurred; hold the camera still and focus on the eyes.",
    Reason.TOO_DARK: "The face is too dark; turn towards a window or add light.",
    Reason.TOO_BRIGHT: "The face is too bright or washed out; avoid direct sun and flash.",
    Reason.TURNED_AWAY: "The face is turned too far away; look more towards the camera.",
    Reason.COVERED: "Part of the face is covered or outside the picture; show eyes, mouth and chin.",
    Reason.DUPLICATE: "This is the same picture as another one; photos from other days teach more.",
    Reason.SOMEONE_ELSE: "This looks like someone else than in the other photos; remove it or enrol them separately.",
}
