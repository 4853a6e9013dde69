"""Dense maps from landmarks. A map is (H, W, 2) float32: for every output pixel, the x, y to read from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

Map = NDArray


def identity_map(height: int, width: int) -> Map:
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])


def triangle_map(
    size: tuple[int, int], to_px: NDArray, triangles: NDArray[np.int32], reads: list[NDArray], depth: NDArray
) -> tuple[NDArray[np.bool_], list[NDArray]]:
    """Piecewise-linear interpolation over a mesh drawn at `to_px` (N, 2) on a canvas of `size` (H, W).

    Each array of `reads`, (N, K), is interpolated to (H, W, K). Nearer triangles (smaller `depth`, (N,)) cover
    farther ones. Returns where the mesh was drawn, and the interpolated arrays (zero elsewhere).
    """
    height, width = size
    index = np.full((height, width), -1, np.int32)
    order = np.argsort(-depth[triangles].mean(1), kind="stable")
    corners = np.round(to_px[triangles] * 16).astype(np.int32)  # 4 fractional bits
    for t in order:
        cv2.fillConvexPoly(index, corners[t], int(t), lineType=cv2.LINE_8, shift=4)
    drawn = index >= 0
    ys, xs = np.nonzero(drawn)
    tri = index[ys, xs]
    a, b, c = (to_px[triangles[tri, i]] for i in range(3))
    p = np.stack([xs, ys], 1).astype(np.float64)
    ab, ac, ap = b - a, c - a, p - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)
    v = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    w = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    weights = np.stack([1 - v - w, v, w], 1)
    weights = np.clip(weights, 0, 1)  # rounding may put a pixel a hair outside its triangle
    weights /= weights.sum(1, keepdims=True)
    filled = []
    for values in reads:
        out = np.zeros((height, width, values.shape[1]), np.float32)
        out[ys, xs] = np.einsum("nk,nkd->nd", weights, values[triangles[tri]])
        filled.append(out)
    return drawn, filled


def smooth_inside(values: NDArray, inside: NDArray[np.bool_], sigma_px: float) -> NDArray:
    """Soften the creases between triangles without reaching past the mesh's edge."""
    weight = inside.astype(np.float32)
    blurred = cv2.GaussianBlur(values * weight[..., None], (0, 0), sigma_px)
    norm = cv2.GaussianBlur(weight, (0, 0), sigma_px)
    return np.where(inside[..., None], blurred / np.maximum(norm, 1e-6)[..., None], values)


def follow(inside: NDArray[np.bool_], shift_px: NDArray, reach_px: float, grid: int = 112) -> NDArray:
    """Shift of the surroundings: equal to `shift_px` (H, W, 2) inside, fading to exactly zero at the border.

    Solves the screened Poisson equation ∇²u = u / reach² on a coarse grid, so hair, ears and neck move along with
    the jaw and the background stays.
    """
    height, width = inside.shape
    step = max(height, width) / grid
    rows, cols = max(8, round(height / step)), max(8, round(width / step))
    weight = cv2.resize(inside.astype(np.float32), (cols, rows), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(shift_px * inside[..., None].astype(np.float32), (cols, rows), interpolation=cv2.INTER_AREA)
    known = weight > 0.5
    values = coarse / np.maximum(weight, 1e-6)[..., None]
    border = np.ones_like(known)
    border[1:-1, 1:-1] = False
    known &= ~border
    fixed = (known | border).ravel()
    n = rows * cols
    screen = 4.0 + (step / reach_px) ** 2
    where = np.arange(n).reshape(rows, cols)
    free = where.ravel()[~fixed]
    number = np.full(n, -1)
    number[free] = np.arange(len(free))
    right = np.zeros((len(free), 2))
    held = np.where(known[..., None], values, 0).reshape(n, 2)
    entries_r, entries_c = [], []
    for offset in (-1, 1, -cols, cols):
        near = free + offset
        is_fixed = fixed[near]
        right[is_fixed] += held[near[is_fixed]]
        entries_r.append(np.arange(len(free))[~is_fixed])
        entries_c.append(number[near[~is_fixed]])
    r, c = np.concatenate(entries_r), np.concatenate(entries_c)
    matrix = sparse.csc_matrix((np.full(len(r), -1.0), (r, c)), shape=(len(free), len(free)))
    matrix += sparse.identity(len(free), format="csc") * screen
    solution = held
    solution[free] = splu(matrix.tocsc()).solve(right)
    field = cv2.resize(
        solution.reshape(rows, cols, 2).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    # Interpolation may leave a trace of movement along the very edge; pixels outside must stay bit-identical.
    rim = np.minimum(*np.meshgrid(_edge_ramp(width, step), _edge_ramp(height, step)))
    return field * rim[..., None]


def _edge_ramp(length: int, step: float) -> NDArray:
    away = np.minimum(np.arange(length), np.arange(length)[::-1])
    return np.clip((away - 1) / max(2 * step, 2), 0, 1).astype(np.float32)


def read(pixels: NDArray, where: Map, shrink: float = 1.0) -> NDArray:
    """Sample `pixels` at `where`; `shrink` source pixels fall on one, so blur first if > 1."""
    source = pixels.astype(np.float32)
    if shrink > 1.2:
        source = cv2.GaussianBlur(source, (0, 0), 0.45 * np.sqrt(shrink**2 - 1))
    return cv2.remap(source, where[..., 0], where[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
