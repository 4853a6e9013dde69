"""TransFace-S (Dan et al. 2023), a face-recognition transformer: an aligned face becomes 144 patch tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facechain.engines.identity.perceiver import adopt, heads


class Attention(nn.Module):
    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (heads(part, self.count) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, count: int, mlp: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, count)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, mlp), "fc2": nn.Linear(mlp, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](functional.relu6(self.mlp["fc1"](self.norm2(x))))


class TransFace(nn.Module):
    """Aligned faces (N, 3, 112, 112) in -1…1, all but the head black -> (N, patches, width)."""

    def __init__(self, *, width: int, layers: int, patch: int, patches: int, mlp: int, count: int = 8) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.pos_embed = nn.Parameter(torch.zeros(1, patches, width))
        self.blocks = nn.ModuleList(Block(width, count, mlp) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.patch_embed["proj"](faces).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    @classmethod
    def of(cls, weights: dict[str, Tensor]) -> TransFace:
        width, _, patch, _ = weights["patch_embed.proj.weight"].shape
        with torch.device("meta"):
            made = cls(
                width=width,
                layers=len({key.split(".")[1] for key in weights if key.startswith("blocks.")}),
                patch=patch,
                patches=weights["pos_embed"].shape[1],
                mlp=len(weights["blocks.0.mlp.fc1.bias"]),
            )
        return adopt(made, {key: weights[key] for key in made.state_dict()})
