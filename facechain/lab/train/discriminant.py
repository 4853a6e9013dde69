"""The directions in which a recogniser's vectors differ between people more than between pictures of one person."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_RIDGE = 1e-6  # keeps directions in which one person's pictures never differed from weighing without bound


def discriminant(embedding: np.ndarray, person: np.ndarray) -> Tensor:
    """(N, D) unit vectors of N pictures and who is in each → (D, D): `vectors @ it` tells people apart.

    Linear discriminant analysis (Fisher 1936). Each direction is scaled by how far a picture tells the person's true
    place in it, so that each counts about 1 where people truly differ and 0 where only pictures do. The mean face of
    all people becomes 0, as no face at all does.
    """
    _, who, count = np.unique(person, return_inverse=True, return_counts=True)
    vectors = embedding.astype(np.float64)
    means = np.zeros((len(count), vectors.shape[1]))
    np.add.at(means, who, vectors)
    means /= count[:, None]
    within = vectors - means[who]
    inside = within.T @ within / max(1, len(vectors) - len(count)) + _RIDGE * np.eye(vectors.shape[1])
    between = np.cov(vectors.T) - inside
    # Both at once diagonal: whiten the inside, then turn onto the axes of what is left between.
    values, axes = np.linalg.eigh(inside)
    white = axes / np.sqrt(values)
    ratio, turned = np.linalg.eigh(white.T @ between @ white)
    ratio = np.clip(ratio, 0, None)
    middle = vectors.mean(0) / np.linalg.norm(vectors.mean(0))
    apart = (np.eye(len(middle)) - np.outer(middle, middle)) @ white @ turned * (np.sqrt(ratio) / (1 + ratio))
    return torch.from_numpy(apart).float()
