"""PhotoMaker's encoder (Li et al. 2024): photos become tokens that are fused with the prompt's class word."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facechain.engines.identity.perceiver import Perceiver, adopt


class Mlp(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.layernorm, self.fc1, self.fc2 = nn.LayerNorm(into), nn.Linear(into, out), nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(self.layernorm(x))))


class Fusion(nn.Module):
    """A class-word embedding and a photo token, each (N, width), become one embedding (N, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp1, self.mlp2, self.layer_norm = Mlp(2 * width, width), Mlp(width, width), nn.LayerNorm(width)

    def forward(self, words: Tensor, photos: Tensor) -> Tensor:
        mixed = self.mlp1(torch.cat([words, photos], dim=-1)) + words
        return self.layer_norm(self.mlp2(mixed) + mixed)


class FaceQueries(nn.Module):
    """v2: tokens from a raw ArcFace vector look at the image tower's patches."""

    def __init__(self, emb: int, context: int, tokens: int, perceiver: Perceiver) -> None:
        super().__init__()
        self.context = context
        self.token_proj = nn.Sequential(nn.Linear(emb, 4 * emb), nn.GELU(), nn.Linear(4 * emb, context * tokens))
        self.token_norm = nn.LayerNorm(context)
        self.perceiver_resampler = perceiver

    def forward(self, vectors: Tensor, patches: Tensor) -> Tensor:
        tokens = self.token_norm(self.token_proj(vectors).unflatten(-1, (-1, self.context)))
        return tokens + self.perceiver_resampler(patches, tokens)


class PhotoEncoder:
    """Both versions; `tokens_per_photo` is 1 in v1 and 2 in v2."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """`weights` is the file's `id_encoder`; heads are 64 wide in the tower and 128 in the perceiver."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}

        self.tower = _tower(under("vision_model."))
        with torch.device("meta"):
            fusion = Fusion(len(weights["fuse_module.layer_norm.weight"]))
        self.fusion = adopt(fusion, under("fuse_module."))
        self.project = torch.cat([weights["visual_projection.weight"], weights["visual_projection_2.weight"]]).float()
        self.queries = None
        if queries := under("qformer_perceiver."):
            at = "perceiver_resampler."
            inner = {key[len(at) :]: value for key, value in queries.items() if key.startswith(at)}
            context = len(queries["token_norm.weight"])
            with torch.device("meta"):
                made = FaceQueries(
                    queries["token_proj.0.weight"].shape[1],
                    context,
                    len(queries["token_proj.2.weight"]) // context,
                    Perceiver.of(inner, head_width=128),
                )
            self.queries = adopt(made, queries)
        self.tokens_per_photo = 1 if self.queries is None else len(queries["token_proj.2.weight"]) // context
        self.image_px = self.tower.config.image_size

    @torch.no_grad()
    def tokens(self, pixels: Tensor, vectors: Tensor | None = None) -> Tensor:
        """CLIP-normalised photos (N, 3, px, px), and in v2 raw vectors (N, emb) -> (N × tokens_per_photo, width)."""
        seen = self.tower(pixels)
        if self.queries is None:
            return seen.pooler_output @ self.project.T
        return self.queries(vectors, seen.last_hidden_state).flatten(0, 1)


def _tower(weights: dict[str, Tensor]) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    width, _, patch, _ = weights["embeddings.patch_embedding.weight"].shape
    side = round((len(weights["embeddings.position_embedding.weight"]) - 1) ** 0.5)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=len(weights["encoder.layers.0.mlp.fc1.bias"]),
        num_attention_heads=width // 64,
        num_hidden_layers=len({key.split(".")[2] for key in weights if key.startswith("encoder.layers.")}),
        patch_size=patch,
        image_size=side * patch,
    )
    tower = CLIPVisionModel(config)
    # transformers has carried this prefix in some versions and not in others.
    prefix = "vision_model." if any(key.startswith("vision_model.") for key in tower.state_dict()) else ""
    named = {prefix + key: value.float() for key, value in weights.items() if not key.endswith("position_ids")}
    tower.load_state_dict(named, strict=True)
    return tower.eval().requires_grad_(False)
