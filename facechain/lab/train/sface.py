"""What SFace sees, learned from. It conditions the family and may teach it; the judge of portraits is another."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_LOOKED_AT = (1, 5, 11)  # activations that are compared: of 112, 56 and 14 pixels a side


class Sface(Protocol):
    """A recogniser in torch: faces (N, 3, S, S) in -1…1, their points (N, 5, 2) in picture widths."""

    def __call__(self, pictures: Tensor, points: Tensor) -> Tensor:
        """(N, 128), unit length."""
        ...

    def see(self, pictures: Tensor, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """Its activations in order, and the same vectors."""
        ...


def unlike(sface: Sface, seen: Tensor, wanted: Tensor, points: Tensor) -> Tensor:
    """How differently SFace sees two rows of faces: 1 - cosine, and its features' relative difference."""
    with torch.no_grad():
        features, vectors = sface.see(wanted, points)
    its, its_vectors = sface.see(seen, points)
    apart = (1 - (its_vectors * vectors).sum(1)).mean()
    for mine, theirs in ((its[k], features[k]) for k in _LOOKED_AT):
        apart = apart + (mine - theirs).abs().float().mean() / theirs.abs().float().mean()
    return apart
