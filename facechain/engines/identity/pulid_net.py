"""PuLID's encoders (Guo et al. 2024): a face vector and five levels of an image tower become tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facechain.engines.identity.perceiver import adopt, perceiver_layers

LEVELS = 5


def mapping(into: int, width: int, out: int) -> nn.Sequential:
    def stage(n: int) -> list[nn.Module]:
        return [nn.Linear(n, width), nn.LayerNorm(width), nn.LeakyReLU()]

    return nn.Sequential(*stage(into), *stage(width), nn.Linear(width, out))


class MlpEncoder(nn.Module):
    """v1: five tokens from the vector, and one from each level (its class token plus the mean of its patches)."""

    def __init__(self, *, emb: int, width: int, vit: int, context: int, tokens: int) -> None:
        super().__init__()
        self.context = context
        self.body = mapping(emb, width, context * tokens)
        for n in range(LEVELS):
            self.add_module(f"mapping_{n}", mapping(vit, width, context))
            self.add_module(f"mapping_patch_{n}", mapping(vit, width, context))

    def forward(self, vectors: Tensor, levels: Sequence[Tensor], mix: bool = False) -> Tensor:
        """(B, photos, emb), five of (B, photos, 1 + patches, vit) -> (B, N, context).

        All tokens of the first photo, then those of the others: their vectors' alone unless `mix`.
        """
        photos = vectors.shape[1]
        tokens = [self._one(vectors[:, p], [level[:, p] for level in levels]) for p in range(photos)]
        first, *others = tokens
        return torch.cat([first, *(t if mix else t[:, :-LEVELS] for t in others)], dim=1)

    def _one(self, vector: Tensor, levels: Sequence[Tensor]) -> Tensor:
        tokens = [self.body(vector).unflatten(-1, (-1, self.context))]
        for n, level in enumerate(levels):
            whole = self.get_submodule(f"mapping_{n}")(level[:, :1])
            patches = self.get_submodule(f"mapping_patch_{n}")(level[:, 1:])
            tokens.append(whole + patches.mean(dim=1, keepdim=True))
        return torch.cat(tokens, dim=1)

    @classmethod
    def of(cls, weights: dict[str, Tensor]) -> MlpEncoder:
        context, (width, emb) = len(weights["mapping_0.6.bias"]), weights["body.0.weight"].shape
        with torch.device("meta"):
            made = cls(
                emb=emb,
                width=width,
                vit=weights["mapping_0.0.weight"].shape[1],
                context=context,
                tokens=len(weights["body.6.bias"]) // context,
            )
        return adopt(made, weights)


class IdFormer(nn.Module):
    """v1.1: queries and the vector's tokens read the levels one after another, two perceiver layers each."""

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        inner: int,
        queries: int,
        width: int,
        emb: int,
        vit: int,
        tokens: int,
        context: int,
    ) -> None:
        super().__init__()
        self.dim, self.queries = dim, queries
        self.latents = nn.Parameter(torch.zeros(1, queries, dim))
        self.proj_out = nn.Parameter(torch.zeros(dim, context))
        self.layers = perceiver_layers(dim, depth, 64, inner)
        for n in range(LEVELS):
            self.add_module(f"mapping_{n}", mapping(vit, width, dim))
        self.id_embedding_mapping = mapping(emb, width, dim * tokens)

    def forward(self, vectors: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """(B, photos, emb), five of (B, photos, 1 + patches, vit) -> (B, queries, context)."""
        vector_tokens = self.id_embedding_mapping(vectors).unflatten(-1, (-1, self.dim)).flatten(1, 2)
        latents = torch.cat([self.latents.expand(len(vectors), -1, -1), vector_tokens], dim=1)
        each = len(self.layers) // LEVELS
        for n, level in enumerate(levels):
            features = torch.cat([vector_tokens, self.get_submodule(f"mapping_{n}")(level.flatten(1, 2))], dim=1)
            for attention, mlp in self.layers[n * each : (n + 1) * each]:  # type: ignore[misc]
                latents = attention(features, latents) + latents
                latents = mlp(latents) + latents
        return latents[:, : self.queries] @ self.proj_out

    @classmethod
    def of(cls, weights: dict[str, Tensor]) -> IdFormer:
        _, queries, dim = weights["latents"].shape
        width, emb = weights["id_embedding_mapping.0.weight"].shape
        with torch.device("meta"):
            made = cls(
                dim=dim,
                depth=len({key.split(".")[1] for key in weights if key.startswith("layers.")}),
                inner=weights["layers.0.0.to_q.weight"].shape[0],
                queries=queries,
                width=width,
                emb=emb,
                vit=weights["mapping_0.0.weight"].shape[1],
                tokens=len(weights["id_embedding_mapping.6.bias"]) // dim,
                context=weights["proj_out"].shape[1],
            )
        return adopt(made, weights)
