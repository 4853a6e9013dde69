"""The person's proportions, in the picture's head pose.

Meshes are MediaPipe's 478 points, (478, 3) in pixels; depth is in the same unit, so a turned head is a rigid
motion and two people in one pose differ by proportions and expression only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points3 = NDArray[np.float32]  # (478, 3)

OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
SURFACE = 468  # the points after these are irises, which lie on no triangle


def similarity(moving: NDArray, fixed: NDArray, weights: NDArray | None = None) -> tuple[float, NDArray, NDArray]:
    """Scale, rotation (3, 3) and shift (3,) with scale·rotation·moving + shift ≈ fixed (Umeyama 1991, weighted)."""
    w = np.ones(len(moving)) if weights is None else weights
    w = w / w.sum()
    centre_m, centre_f = w @ moving, w @ fixed
    m, f = moving - centre_m, fixed - centre_f
    u, s, vt = np.linalg.svd((f * w[:, None]).T @ m)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((s * sign).sum() / (w @ (m**2).sum(1)))
    return scale, rotation, centre_f - scale * rotation @ centre_m


def _rigid_weights() -> NDArray:
    """Trust bone more than muscle: brow, nose and temples define the pose; the mouth and jaw move."""
    weights = np.ones(478)
    weights[[*LIPS, *INNER_LIPS]] = 0.1
    weights[list(OVAL)] = 0.4
    weights[SURFACE:] = 0.2
    return weights


def posed(source: Points3, target: Points3, shape: float) -> Points3:
    """Where the person's points lie in the target picture, (478, 3).

    `shape` 1 carries the person's own proportions and expression, 0 keeps the template's.
    """
    scale, rotation, shift = similarity(source, target, _rigid_weights())
    mine = scale * source @ rotation.T + shift
    return (target + shape * (mine - target)).astype(np.float32)


def toward_camera(mesh: Points3, faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """How far each vertex of the surface faces the camera: 1 straight on, 0 edge-on or behind, (468,).

    `faces` wind so that their normals point out of the head, that is to smaller depth when looking at the camera.
    """
    a, b, c = (mesh[faces[:, i]].astype(np.float64) for i in range(3))
    normals = np.cross(b - a, c - a)
    vertex = np.zeros((SURFACE, 3))
    for i in range(3):
        np.add.at(vertex, faces[:, i], normals)
    return np.clip(-vertex[:, 2] / np.maximum(np.linalg.norm(vertex, axis=1), 1e-9), 0, 1).astype(np.float32)
