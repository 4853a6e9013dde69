"""EVA02-CLIP's image side (Fang et al. 2023, Sun et al. 2023), which PuLID looks through.

Not quite a plain vision transformer: queries and values have a bias, keys have none; positions turn queries and keys
(RoPE over rows and columns); attention and the gated feed-forward each normalise once more before their last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facechain.engines.identity.perceiver import adopt, heads

HEAD = 64  # width of an attention head
EPS = 1e-6
TRAINED_SIDE = 16  # patches a side that positions were first trained with; larger sides are squeezed into it
LEVELS = (4, 8, 12, 16, 20)  # blocks whose input PuLID reads


def turns(side: int, width: int = HEAD) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (side², width), of the angles by which a patch's row and column turn its pairs."""
    pairs = width // 4  # half of the pairs tell the row, half the column
    speed = 10000.0 ** (-torch.arange(pairs) / pairs)
    along = torch.outer(torch.arange(side) * (TRAINED_SIDE / side), speed).repeat_interleave(2, dim=1)
    rows, columns = along[:, None].expand(-1, side, -1), along[None].expand(side, -1, -1)
    angles = torch.cat([rows, columns], dim=-1).flatten(0, 1)
    return angles.cos(), angles.sin()


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(…, 1 + patches, width) with every pair of numbers turned; the class token stays as it is."""
    token, patches = x[..., :1, :], x[..., 1:, :]
    a, b = patches.unflatten(-1, (-1, 2)).unbind(-1)
    across = torch.stack([-b, a], dim=-1).flatten(-2)
    return torch.cat([token, patches * cos + across * sin], dim=-2)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.inner_attn_ln, self.proj = nn.LayerNorm(width, eps=EPS), nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        count = x.shape[-1] // HEAD
        query, key, value = (
            heads(part, count) for part in (self.q_proj(x) + self.q_bias, self.k_proj(x), self.v_proj(x) + self.v_bias)
        )
        seen = functional.scaled_dot_product_attention(turned(query, cos, sin), turned(key, cos, sin), value)
        return self.proj(self.inner_attn_ln(seen.transpose(1, 2).flatten(2)))


class GatedMlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(width, inner), nn.Linear(width, inner), nn.Linear(inner, width)
        self.ffn_ln = nn.LayerNorm(inner, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(self.ffn_ln(functional.silu(self.w1(x)) * self.w2(x)))


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.attn, self.mlp = Attention(width), GatedMlp(width, inner)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class EvaTower(nn.Module):
    """CLIP-normalised pictures (N, 3, px, px) -> class features (N, out) and levels (5, N, 1 + patches, width)."""

    def __init__(self, *, width: int, layers: int, mlp: int, patch: int, positions: int, out: int) -> None:
        super().__init__()
        self.side = round((positions - 1) ** 0.5)
        self.image_px = self.side * patch
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, width))
        self.blocks = nn.ModuleList(Block(width, mlp) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, eps=EPS), nn.Linear(width, out)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch_embed["proj"](pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        (cos, sin), levels = (t.to(x) for t in turns(self.side)), []
        for number, block in enumerate(self.blocks):
            if number in LEVELS:
                levels.append(x)
            x = block(x, cos, sin)
        return self.head(self.norm(x)[:, 0]), torch.stack(levels)

    @classmethod
    def of(cls, weights: dict[str, Tensor]) -> EvaTower:
        """Built to fit the published `visual.` weights, which it takes over; stored angles are computed anew."""
        weights = {key: value for key, value in weights.items() if "rope.freqs_" not in key}
        width, _, patch, _ = weights["patch_embed.proj.weight"].shape
        with torch.device("meta"):
            made = cls(
                width=width,
                layers=len({key.split(".")[1] for key in weights if key.startswith("blocks.")}),
                mlp=len(weights["blocks.0.mlp.w1.bias"]),
                patch=patch,
                positions=weights["pos_embed"].shape[1],
                out=len(weights["head.bias"]),
            )
        return adopt(made, weights)
