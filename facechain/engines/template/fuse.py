"""One face of a picture becomes the person."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.engines.template import blend, light, shape, warp
from facechain.engines.template.choose import Source
from facechain.engines.template.front import in_front
from facechain.types import Mask, Mesh, Parts, Pixels


@dataclass(frozen=True, kw_only=True)
class Settings:
    identity_scale: float = 1.0  # 0 keeps the template's face, 1 is the person's
    shape: float = 0.85  # 0 keeps the template's proportions, 1 is the person's
    light: float = 0.75  # 0 matches the whole face's tone, 1 its shading at every place
    seed: int = 0


def region(mesh: NDArray, height: int, width: int) -> tuple[slice, slice]:
    """The part of the picture that may change: the face with one face height of room around it."""
    low, high = mesh[:, :2].min(0), mesh[:, :2].max(0)
    room = 0.9 * (high[1] - low[1])
    left, top = np.floor(np.maximum(low - room, 0)).astype(int)
    right, bottom = np.ceil(np.minimum(high + room, (width, height))).astype(int)
    return slice(top, bottom), slice(left, right)


def fuse(
    picture: Pixels, target: Mesh, parts: Parts, source: Source, faces: NDArray[np.int32], settings: Settings
) -> Pixels:
    """`picture` with the face at `target` replaced; pixels outside `region` are bit-identical.

    `faces` (M, 3) are the triangles both meshes span.
    """
    if settings.identity_scale == 0:
        return picture.copy()
    rows, cols = region(target.points_px, *picture.shape[:2])
    template = picture[rows, cols]
    size = template.shape[:2]
    here = target.points_px - np.array([cols.start, rows.start, 0], np.float32)
    there = source.mesh.points_px
    placed = shape.posed(there, here, settings.shape * min(1.0, settings.identity_scale))
    face_px = float(np.linalg.norm(here[454, :2] - here[234, :2]) + np.linalg.norm(here[10, :2] - here[152, :2])) / 2

    surface = slice(0, shape.SURFACE)
    seen = np.minimum(shape.toward_camera(there, faces), shape.toward_camera(placed, faces))
    inside, (from_source, from_template, visible) = warp.triangle_map(
        size,
        placed[surface, :2],
        faces,
        [there[surface, :2], here[surface, :2], np.clip(seen * 5 - 0.5, 0, 1)[:, None]],
        placed[surface, 2],
    )
    plain = warp.identity_map(*size)
    from_source = warp.smooth_inside(from_source, inside, 0.012 * face_px)
    shift = warp.smooth_inside((from_template - plain) * inside[..., None], inside, 0.012 * face_px)
    field = _join(shift, warp.follow(inside, shift, 0.4 * face_px), inside, 0.03 * face_px)

    moved = warp.read(template, plain + field)
    shrink = _scale(there) / _scale(placed)
    person = warp.read(source.pixels, from_source, shrink)
    person = np.where(inside[..., None], person, moved)

    outline = blend.polygon(size, here, shape.OVAL) > 0.5
    bare_here = warp.read(1 - in_front(_window(parts, rows, cols), outline, face_px), plain + field)
    bare_there = warp.read(source.bare, from_source) * visible[..., 0]
    mask = _mask(size, placed, face_px, np.clip(bare_here, 0, 1), np.clip(bare_there, 0, 1) * inside)
    features = _features(size, placed, face_px)
    skin = (mask > 0.6) * (1 - _grown_features(size, placed, face_px))

    lit = light.relit(
        light.to_linear(person),
        light.to_linear(moved),
        skin=skin.astype(np.float32),
        lips=_lips(size, placed, face_px),
        features=features,
        face_px=face_px,
        local=settings.light,
    )
    lit = np.where(inside[..., None], light.match_grain(light.to_srgb(lit), moved, skin, settings.seed, face_px), moved)
    levels = max(2, round(np.log2(max(face_px, 32) / 14)))
    joined = blend.bands(lit, moved, mask * settings.identity_scale, levels)

    changed = (np.abs(field).sum(2) > 0) | (mask > 0)
    result = picture.copy()
    result[rows, cols] = np.where(changed[..., None], np.clip(np.round(joined), 0, 255), template).astype(np.uint8)
    return result


def _scale(points: NDArray) -> float:
    return float(np.linalg.norm(points[:, :2] - points[:, :2].mean(0), axis=1).mean())


def _join(inner: NDArray, outer: NDArray, inside: NDArray, soft_px: float) -> NDArray:
    """The exact shift on the face, the followed one around it, without a step between."""
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), soft_px)
    weight = np.clip(weight * 2 - 1, 0, 1)[..., None]
    return outer + (inner - outer) * weight


def _window(parts: Parts, rows: slice, cols: slice) -> Parts:
    return Parts(masks={part: mask[rows, cols] for part, mask in parts.masks.items()})


def _mask(size: tuple[int, int], placed: NDArray, face_px: float, here: Mask, there: Mask) -> Mask:
    """The oval of the face, a little inside its outline, where neither face is covered.

    What hides the person's face fades out softly, for the template's skin goes on there; what lies in front of the
    template's, hair or a hand, keeps its own edge.
    """
    oval = blend.polygon(size, placed, shape.OVAL, grow_px=-0.02 * face_px)
    soft = cv2.GaussianBlur(oval * there, (0, 0), 0.025 * face_px)
    return (np.clip(2 * soft - 1, 0, 1) * here).astype(np.float32)  # fades towards the inside only


def _features(size: tuple[int, int], placed: NDArray, face_px: float) -> Mask:
    rings = (shape.RIGHT_EYE, shape.LEFT_EYE, shape.INNER_LIPS)
    masks = [blend.polygon(size, placed, ring, grow_px=0.01 * face_px, soft_px=0.006 * face_px) for ring in rings]
    return np.max(masks, axis=0)


def _lips(size: tuple[int, int], placed: NDArray, face_px: float) -> Mask:
    outer = blend.polygon(size, placed, shape.LIPS, soft_px=0.008 * face_px)
    return outer * (1 - blend.polygon(size, placed, shape.INNER_LIPS, soft_px=0.006 * face_px))


def _grown_features(size: tuple[int, int], placed: NDArray, face_px: float) -> Mask:
    rings = (shape.RIGHT_EYE, shape.LEFT_EYE, shape.RIGHT_BROW, shape.LEFT_BROW, shape.LIPS)
    return np.max([blend.polygon(size, placed, ring, grow_px=0.025 * face_px) for ring in rings], axis=0)
