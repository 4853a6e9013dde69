"""What may change of a face."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.engines.template.front import in_front
from facechain.engines.template.shape import OVAL
from facechain.types import Face, Mask, Mesh, Part, Parts

GROW = 0.08  # of the face's size: the jaw and the cheeks may be another person's
FEATHER = 0.06


def face_mask(size: tuple[int, int], face: Face, mesh: Mesh | None, parts: Parts, own: NDArray[np.bool_]) -> Mask:
    """(H, W), 1 where the face is the person's, fading to exactly 0 at its edge and outside of `own`.

    The face's outline by its landmarks (by the detector's box when there are none), grown a little, with the skin
    next to it; without what lies in front of it.
    """
    shape, face_px = _outline(size, mesh) if mesh is not None else _ellipse(size, face)
    grown = _grown(shape, GROW * face_px)
    near = _grown(shape, 2 * GROW * face_px)
    skin = (parts.masks[Part.FACE_SKIN] > 0.5) & near
    region = ((grown | skin) & own).astype(np.float32)
    edge = cv2.GaussianBlur(region, (0, 0), max(0.5, FEATHER * face_px))
    soft = np.clip(2 * edge - 1, 0, 1) * region  # fades towards the inside only
    return (soft * (1 - in_front(parts, shape, face_px))).astype(np.float32)


def _outline(size: tuple[int, int], mesh: Mesh) -> tuple[NDArray[np.bool_], float]:
    ring = mesh.points_px[list(OVAL), :2]
    drawn = np.zeros(size, np.uint8)
    cv2.fillPoly(drawn, [np.round(ring * 16).astype(np.int32)], 1, lineType=cv2.LINE_8, shift=4)
    low, high = ring.min(0), ring.max(0)
    return drawn > 0, float((high - low).mean())


def _ellipse(size: tuple[int, int], face: Face) -> tuple[NDArray[np.bool_], float]:
    drawn = np.zeros(size, np.uint8)
    centre = (face.box_px[:2] + face.box_px[2:]) / 2
    axes = (face.width_px, 1.1 * face.height_px)
    cv2.ellipse(drawn, (tuple(map(float, centre)), axes, face.pose.roll_deg), 1, -1)
    return drawn > 0, (face.width_px + face.height_px) / 2


def _grown(shape: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    radius = max(1, round(by_px))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(shape.astype(np.uint8), kernel) > 0
