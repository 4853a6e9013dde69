"""The perceiver ("resampler") that most methods use to turn face features into tokens.

Jaegle et al. 2021, in the shape IP-Adapter Plus gave it; module names follow the published keys.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

M = TypeVar("M", bound=nn.Module)


def adopt(module: M, weights: dict[str, Tensor]) -> M:
    """`module`, built on the meta device, with these weights in fp32, frozen. Every key must be used and present."""
    module.load_state_dict({key: value.float() for key, value in weights.items()}, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def heads(x: Tensor, count: int) -> Tensor:
    """(B, N, heads × d) -> (B, heads, N, d)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


class PerceiverAttention(nn.Module):
    """Latents look at the features and at themselves."""

    def __init__(self, dim: int, head_width: int, inner: int) -> None:
        super().__init__()
        self.count = inner // head_width
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        key, value = self.to_kv(torch.cat([self.norm1(features), latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (heads(x, self.count) for x in (self.to_q(latents), key, value))
        seen = functional.scaled_dot_product_attention(query, key, value)
        return self.to_out(seen.transpose(1, 2).flatten(2))


def feed_forward(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False)
    )


def perceiver_layers(dim: int, depth: int, head_width: int, inner: int) -> nn.ModuleList:
    pair = (nn.ModuleList([PerceiverAttention(dim, head_width, inner), feed_forward(dim)]) for _ in range(depth))
    return nn.ModuleList(pair)


class Perceiver(nn.Module):
    """Features (B, N, emb) -> tokens (B, queries, out). Without own latents (`queries` 0) they are given."""

    def __init__(
        self, *, dim: int, depth: int, inner: int, emb: int, out: int, queries: int = 0, head_width: int = 64
    ) -> None:
        super().__init__()
        if queries:
            self.latents = nn.Parameter(torch.zeros(1, queries, dim))
        self.proj_in, self.proj_out, self.norm_out = nn.Linear(emb, dim), nn.Linear(dim, out), nn.LayerNorm(out)
        self.layers = perceiver_layers(dim, depth, head_width, inner)

    def forward(self, features: Tensor, latents: Tensor | None = None) -> Tensor:
        if latents is None:
            latents = self.latents.expand(len(features), -1, -1)
        features = self.proj_in(features)
        for attention, mlp in self.layers:  # type: ignore[misc]
            latents = attention(features, latents) + latents
            latents = mlp(latents) + latents
        return self.norm_out(self.proj_out(latents))

    @classmethod
    def of(cls, weights: dict[str, Tensor], head_width: int = 64) -> Perceiver:
        """Built to fit published weights, which it takes over."""
        latents, query = weights.get("latents"), weights["layers.0.0.to_q.weight"]
        with torch.device("meta"):
            made = cls(
                dim=query.shape[1],
                depth=len({key.split(".")[1] for key in weights if key.startswith("layers.")}),
                inner=query.shape[0],
                emb=weights["proj_in.weight"].shape[1],
                out=weights["proj_out.weight"].shape[0],
                queries=0 if latents is None else latents.shape[1],
                head_width=head_width,
            )
        return adopt(made, weights)


class TokenMlp(nn.Module):
    """Face vector (B, emb) -> tokens (B, tokens, context); IP-Adapter FaceID's projector."""

    def __init__(self, emb: int, tokens: int, context: int) -> None:
        super().__init__()
        self.context = context
        self.proj = nn.Sequential(nn.Linear(emb, 2 * emb), nn.GELU(), nn.Linear(2 * emb, tokens * context))
        self.norm = nn.LayerNorm(context)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.norm(self.proj(vectors).unflatten(-1, (-1, self.context)))

    @classmethod
    def of(cls, weights: dict[str, Tensor]) -> TokenMlp:
        """Built to fit the MLP keys among published weights."""
        context = len(weights["norm.weight"])
        with torch.device("meta"):
            made = cls(weights["proj.0.weight"].shape[1], len(weights["proj.2.weight"]) // context, context)
        return adopt(made, {key: weights[key] for key in made.state_dict()})
