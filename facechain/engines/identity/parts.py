"""The tensors of parts that several published files share, as tables: key -> shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from facechain.engines.identity.layout import Layout

Shapes: TypeAlias = dict[str, tuple[int, ...]]


def linear(key: str, out: int, into: int) -> Shapes:
    return {f"{key}.weight": (out, into), f"{key}.bias": (out,)}


def norm(key: str, width: int) -> Shapes:
    return {f"{key}.weight": (width,), f"{key}.bias": (width,)}


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: shape for key, shape in shapes.items()}


def perceiver_layers(dim: int, depth: int, inner: int) -> Shapes:
    shapes: Shapes = {}
    for n in range(depth):
        shapes |= norm(f"layers.{n}.0.norm1", dim) | norm(f"layers.{n}.0.norm2", dim)
        shapes |= {
            f"layers.{n}.0.to_q.weight": (inner, dim),
            f"layers.{n}.0.to_kv.weight": (2 * inner, dim),
            f"layers.{n}.0.to_out.weight": (dim, inner),
        }
        shapes |= norm(f"layers.{n}.1.0", dim)
        shapes |= {f"layers.{n}.1.1.weight": (4 * dim, dim), f"layers.{n}.1.3.weight": (dim, 4 * dim)}
    return shapes


def resampler(*, dim: int, depth: int, inner: int, emb: int, out: int, queries: int | None = None) -> Shapes:
    """A perceiver; without `queries` its latents come from elsewhere. `inner` is heads × width of a head."""
    shapes: Shapes = {} if queries is None else {"latents": (1, queries, dim)}
    shapes |= linear("proj_in", dim, emb) | linear("proj_out", out, dim) | norm("norm_out", out)
    return shapes | perceiver_layers(dim, depth, inner)


def token_mlp(context: int, tokens: int, emb: int) -> Shapes:
    return linear("proj.0", 2 * emb, emb) | linear("proj.2", context * tokens, 2 * emb) | norm("norm", context)


def injection(layout: Layout, key: str, value: str) -> Shapes:
    shapes: Shapes = {}
    for k, (_, width) in enumerate(layout.blocks):
        shapes[f"{2 * k + 1}.{key}.weight"] = (width, layout.context)
        shapes[f"{2 * k + 1}.{value}.weight"] = (width, layout.context)
    return shapes


def attention_loras(layout: Layout, rank: int, name: Callable[[int, str, int], str]) -> Iterator[tuple[str, tuple]]:
    """(key, shape) of low-rank pairs on q, k, v and out of every attention; `name(block, path, which)` -> prefix."""
    for k, (path, width) in enumerate(layout.blocks):
        for which, into in ((0, width), (1, layout.context)):
            for part in ("to_q", "to_k", "to_v", "to_out"):
                prefix = f"{name(k, path, which)}.{part}_lora"
                yield f"{prefix}.down.weight", (rank, into if part in ("to_k", "to_v") else width)
                yield f"{prefix}.up.weight", (width, rank)


def clip_vision(width: int, layers: int, mlp: int, patch: int, positions: int) -> Shapes:
    shapes: Shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "embeddings.position_embedding.weight": (positions, width),
    }
    shapes |= norm("pre_layrnorm", width)  # spelled so in the published files
    for n in range(layers):
        shapes |= clip_layer(f"encoder.layers.{n}", width, mlp)
    return shapes | norm("post_layernorm", width)


def clip_layer(key: str, width: int, mlp: int) -> Shapes:
    shapes: Shapes = {}
    for part in ("q", "k", "v", "out"):
        shapes |= linear(f"{key}.self_attn.{part}_proj", width, width)
    shapes |= norm(f"{key}.layer_norm1", width) | norm(f"{key}.layer_norm2", width)
    return shapes | linear(f"{key}.mlp.fc1", mlp, width) | linear(f"{key}.mlp.fc2", width, mlp)


def fuse(width: int) -> Shapes:
    shapes = norm("mlp1.layernorm", 2 * width) | linear("mlp1.fc1", width, 2 * width)
    shapes |= linear("mlp1.fc2", width, width) | norm("mlp2.layernorm", width)
    shapes |= linear("mlp2.fc1", width, width) | linear("mlp2.fc2", width, width)
    return shapes | norm("layer_norm", width)


def mapping(key: str, into: int, width: int, out: int) -> Shapes:
    shapes = linear(f"{key}.0", width, into) | norm(f"{key}.1", width)
    shapes |= linear(f"{key}.3", width, width) | norm(f"{key}.4", width)
    return shapes | linear(f"{key}.6", out, width)
