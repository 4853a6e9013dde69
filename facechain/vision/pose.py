"""Head pose from landmarks; signs as in `facechain.types`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facechain.types import Points, Pose

# An average head, in millimetres: x right in the picture, y down, z away from the viewer.
FIVE_POINTS_MM = np.array(
    [[-31.5, -33.0, 15.0], [31.5, -33.0, 15.0], [0.0, 0.0, -22.0], [-25.0, 31.0, 8.0], [25.0, 31.0, 8.0]], np.float64
)


def angles(rotation: NDArray) -> Pose:
    """Pose of a head whose frame is turned by `rotation` (3, 3): first rolled, then pitched, then yawed.

    Yaw and pitch are therefore where the face looks, whatever the roll.
    """
    forward = -rotation[:, 2]
    yaw = math.atan2(forward[0], -forward[2])
    pitch = math.asin(float(np.clip(-forward[1], -1, 1)))
    level_right = np.array([math.cos(yaw), 0.0, math.sin(yaw)])
    level_down = np.cross(rotation[:, 2], level_right)
    right = rotation[:, 0]
    roll = math.atan2(float(right @ level_down), float(right @ level_right))
    return Pose(yaw_deg=math.degrees(yaw), pitch_deg=math.degrees(pitch), roll_deg=math.degrees(roll))


def rotation_between(source: NDArray, target: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """Weighted least-squares rotation (3, 3) taking `source` (N, 3) to `target` (N, 3) (Kabsch)."""
    share = (weights / weights.sum())[:, None]
    source, target = source - (share * source).sum(0), target - (share * target).sum(0)
    u, _, vt = np.linalg.svd((share * target).T @ source)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


def five_point_pose(points: Points) -> Pose:
    """Approximate: five points of an average head seen from afar (POS; DeMenthon and Davis 1995)."""
    head = FIVE_POINTS_MM - FIVE_POINTS_MM.mean(0)
    seen = np.asarray(points, np.float64) - np.mean(points, 0)
    u, _, vt = np.linalg.svd(np.linalg.lstsq(head, seen, rcond=None)[0].T, full_matrices=False)
    rows = u @ vt  # the nearest two orthonormal rows; the third completes them
    return angles(np.vstack([rows, np.cross(rows[0], rows[1])]))
