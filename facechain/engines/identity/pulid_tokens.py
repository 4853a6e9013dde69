"""PuLID's tokens for one person: (2, N, context), the negative face (all zeros into the encoder) first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.evidence import Evidence
from facechain.engines.identity.pulid_net import IdFormer, MlpEncoder
from facechain.engines.identity.pulid_tower import FaceTower


class PulidTokens:
    def __init__(self, file: Checkpoint, evidence: Evidence, tower: FaceTower) -> None:
        weights = file.under("id_adapter.")
        self.encoder = IdFormer.of(weights) if file.kind == "pulid-v1.1" else MlpEncoder.of(weights)
        classes, levels = tower(evidence.crops)
        faces = torch.from_numpy(np.stack([vector.vector for vector in evidence.vectors]))
        self.shares = torch.tensor(evidence.shares)
        assert evidence.fused is not None
        self.fused = torch.from_numpy(evidence.fused.vector)
        # The raw face vector beside the image tower's unit-length one.
        self.vectors = torch.cat([faces, functional.normalize(classes, dim=-1)], dim=-1)[None]  # (1, photos, emb)
        self.levels = levels[:, None]  # (5, 1, photos, patches, width)

    @torch.no_grad()
    def tokens(self, most: int, mix: bool, empty: int, average: bool = False) -> Tensor:
        """`empty` zero tokens are appended, which draw attention away from the face; `average` is of all photos."""
        vectors, levels = self.vectors[:, :most], list(self.levels[:, :, :most])
        if average:
            seen = functional.normalize(self.shares @ self.vectors[0, :, len(self.fused) :], dim=-1)
            vectors = torch.cat([self.fused, seen])[None, None]
            levels = list(torch.einsum("p,lbpnw->lbnw", self.shares, self.levels)[:, :, None])
        zeros = torch.zeros_like(vectors), [torch.zeros_like(level) for level in levels]
        if isinstance(self.encoder, IdFormer):
            person, negative = (
                self.encoder(vectors, levels),
                self.encoder(zeros[0][:, :1], [z[:, :1] for z in zeros[1]]),
            )
        else:
            # v1's tokens grow with the photos, and so do the negative face's: both leave out the same of the others'.
            person, negative = self.encoder(vectors, levels, mix=mix), self.encoder(*zeros, mix=mix)
        return functional.pad(torch.cat([negative, person]), (0, 0, 0, empty))
