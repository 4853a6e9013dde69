"""The tensors each published identity checkpoint holds, as tables: key -> shape.

Every builder's defaults are the published sizes; other sizes describe smaller files of the same structure. Keys are
dotted paths through the file's nested dictionaries. `Layout` is the base model's half: which cross-attention blocks
it has, and how wide they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

Shapes: TypeAlias = dict[str, tuple[int, ...]]


# ── the base ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Transformer blocks of a UNet in the order down, up, mid, which numbers the attention weights of adapter files.

    Block k owns processor 2k (self-attention) and 2k + 1 (cross-attention).
    """

    family: str
    context: int  # width of the text tokens
    blocks: tuple[tuple[str, int], ...]  # path of the block, channels


def _blocks(plan: Mapping[str, tuple[int, int, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(
        (f"{part}.attentions.{a}.transformer_blocks.{b}", width)
        for part, (attentions, depth, width) in plan.items()
        for a in range(attentions)
        for b in range(depth)
    )


SD15 = Layout(
    family="sd15",
    context=768,
    blocks=_blocks(
        {
            "down_blocks.0": (2, 1, 320),
            "down_blocks.1": (2, 1, 640),
            "down_blocks.2": (2, 1, 1280),
            "up_blocks.1": (3, 1, 1280),
            "up_blocks.2": (3, 1, 640),
            "up_blocks.3": (3, 1, 320),
            "mid_block": (1, 1, 1280),
        }
    ),
)
SDXL = Layout(
    family="sdxl",
    context=2048,
    blocks=_blocks(
        {
            "down_blocks.1": (2, 2, 640),
            "down_blocks.2": (2, 10, 1280),
            "up_blocks.0": (3, 10, 1280),
            "up_blocks.1": (3, 2, 640),
            "mid_block": (1, 10, 1280),
        }
    ),
)


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _linear(key: str, out: int, into: int) -> Shapes:
    return {f"{key}.weight": (out, into), f"{key}.bias": (out,)}


def _norm(key: str, width: int) -> Shapes:
    return {f"{key}.weight": (width,), f"{key}.bias": (width,)}


def _under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: shape for key, shape in shapes.items()}


def _perceiver_layers(dim: int, depth: int, inner: int) -> Shapes:
    shapes: Shapes = {}
    for n in range(depth):
        shapes |= _norm(f"layers.{n}.0.norm1", dim) | _norm(f"layers.{n}.0.norm2", dim)
        shapes |= {
            f"layers.{n}.0.to_q.weight": (inner, dim),
            f"layers.{n}.0.to_kv.weight": (2 * inner, dim),
            f"layers.{n}.0.to_out.weight": (dim, inner),
        }
        shapes |= _norm(f"layers.{n}.1.0", dim)
        shapes |= {f"layers.{n}.1.1.weight": (4 * dim, dim), f"layers.{n}.1.3.weight": (dim, 4 * dim)}
    return shapes


def resampler(*, dim: int, depth: int, inner: int, emb: int, out: int, queries: int | None = None) -> Shapes:
    """A perceiver; without `queries` its latents come from elsewhere. `inner` is heads × width of a head."""
    shapes: Shapes = {} if queries is None else {"latents": (1, queries, dim)}
    shapes |= _linear("proj_in", dim, emb) | _linear("proj_out", out, dim) | _norm("norm_out", out)
    return shapes | _perceiver_layers(dim, depth, inner)


def _token_mlp(context: int, tokens: int, emb: int) -> Shapes:
    return _linear("proj.0", 2 * emb, emb) | _linear("proj.2", context * tokens, 2 * emb) | _norm("norm", context)


def _injection(layout: Layout, key: str, value: str) -> Shapes:
    shapes: Shapes = {}
    for k, (_, width) in enumerate(layout.blocks):
        shapes[f"{2 * k + 1}.{key}.weight"] = (width, layout.context)
        shapes[f"{2 * k + 1}.{value}.weight"] = (width, layout.context)
    return shapes


def _attention_loras(layout: Layout, rank: int, name: Callable[[int, str, int], str]) -> Iterator[tuple[str, tuple]]:
    """(key, shape) of low-rank pairs on q, k, v and out of every attention; `name(block, path, which)` -> prefix."""
    for k, (path, width) in enumerate(layout.blocks):
        for which, into in ((0, width), (1, layout.context)):
            for part in ("to_q", "to_k", "to_v", "to_out"):
                prefix = f"{name(k, path, which)}.{part}_lora"
                yield f"{prefix}.down.weight", (rank, into if part in ("to_k", "to_v") else width)
                yield f"{prefix}.up.weight", (width, rank)


# ── whole files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def portrait(layout: Layout, *, tokens: int = 16, emb: int = 512) -> Shapes:
    """IP-Adapter FaceID Portrait: an MLP to tokens, and key/value weights."""
    return _under("image_proj.", _token_mlp(layout.context, tokens, emb)) | _under(
        "ip_adapter.", _injection(layout, "to_k_ip", "to_v_ip")
    )


def faceid(layout: Layout, *, tokens: int = 4, emb: int = 512, rank: int = 128) -> Shapes:
    """IP-Adapter FaceID: as Portrait, with low-rank weights on every attention."""
    loras = dict(_attention_loras(layout, rank, lambda k, path, which: f"ip_adapter.{2 * k + which}"))
    return portrait(layout, tokens=tokens, emb=emb) | loras


def faceid_plus(
    layout: Layout,
    *,
    tokens: int = 4,
    emb: int = 512,
    rank: int = 128,
    depth: int = 4,
    inner: int | None = None,
    clip: int = 1280,
) -> Shapes:
    """FaceID Plus and PlusV2, which are equal: as FaceID, and a perceiver whose latents are the MLP's tokens."""
    dim = layout.context
    perceiver = resampler(dim=dim, depth=depth, inner=inner or dim, emb=clip, out=dim)
    return faceid(layout, tokens=tokens, emb=emb, rank=rank) | _under("image_proj.perceiver_resampler.", perceiver)


def instantid(
    layout: Layout, *, dim: int = 1280, depth: int = 4, inner: int = 1280, queries: int = 16, emb: int = 512
) -> Shapes:
    """InstantID's adapter and FaceID Portrait-unnorm, which are equal: a perceiver, and key/value weights."""
    perceiver = resampler(dim=dim, depth=depth, inner=inner, emb=emb, out=layout.context, queries=queries)
    return _under("image_proj.", perceiver) | _under("ip_adapter.", _injection(layout, "to_k_ip", "to_v_ip"))


def _clip_vision(width: int, layers: int, mlp: int, patch: int, positions: int) -> Shapes:
    shapes: Shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "embeddings.position_embedding.weight": (positions, width),
    }
    shapes |= _norm("pre_layrnorm", width)  # spelled so in the published files
    for n in range(layers):
        shapes |= _clip_layer(f"encoder.layers.{n}", width, mlp)
    return shapes | _norm("post_layernorm", width)


def _clip_layer(key: str, width: int, mlp: int) -> Shapes:
    shapes: Shapes = {}
    for part in ("q", "k", "v", "out"):
        shapes |= _linear(f"{key}.self_attn.{part}_proj", width, width)
    shapes |= _norm(f"{key}.layer_norm1", width) | _norm(f"{key}.layer_norm2", width)
    return shapes | _linear(f"{key}.mlp.fc1", mlp, width) | _linear(f"{key}.mlp.fc2", width, mlp)


def _fuse(width: int) -> Shapes:
    shapes = _norm("mlp1.layernorm", 2 * width) | _linear("mlp1.fc1", width, 2 * width)
    shapes |= _linear("mlp1.fc2", width, width) | _norm("mlp2.layernorm", width)
    shapes |= _linear("mlp2.fc1", width, width) | _linear("mlp2.fc2", width, width)
    return shapes | _norm("layer_norm", width)


def photomaker_v1(
    layout: Layout,
    *,
    rank: int = 64,
    vision: int = 1024,
    layers: int = 24,
    mlp: int = 4096,
    patch: int = 14,
    positions: int = 257,
    first: int = 768,
) -> Shapes:
    """PhotoMaker: a CLIP image tower, two projections, the fusion with the class word; and attention LoRA.

    `first` is the part of the text width that comes from the first of SDXL's two text encoders.
    """
    encoder = _under("vision_model.", _clip_vision(vision, layers, mlp, patch, positions))
    encoder |= {
        "visual_projection.weight": (first, vision),
        "visual_projection_2.weight": (layout.context - first, vision),
    }
    encoder |= _under("fuse_module.", _fuse(layout.context))

    def place(k: int, path: str, which: int) -> str:
        return f"lora_weights.unet.{path}.attn{which + 1}.processor"

    return _under("id_encoder.", encoder) | dict(_attention_loras(layout, rank, place))


def photomaker_v2(
    layout: Layout,
    *,
    tokens: int = 2,
    emb: int = 512,
    depth: int = 4,
    inner: int | None = None,
    vision: int = 1024,
    **v1: int,
) -> Shapes:
    """PhotoMaker v2: as v1, with ArcFace tokens that look at the image tower's patches."""
    dim = layout.context
    q = _linear("token_proj.0", 4 * emb, emb) | _linear("token_proj.2", dim * tokens, 4 * emb)
    q |= _norm("token_norm", dim)
    q |= _under("perceiver_resampler.", resampler(dim=dim, depth=depth, inner=inner or dim, emb=vision, out=dim))
    return photomaker_v1(layout, vision=vision, **v1) | _under("id_encoder.qformer_perceiver.", q)


def _mapping(key: str, into: int, width: int, out: int) -> Shapes:
    shapes = _linear(f"{key}.0", width, into) | _norm(f"{key}.1", width)
    shapes |= _linear(f"{key}.3", width, width) | _norm(f"{key}.4", width)
    return shapes | _linear(f"{key}.6", out, width)


def pulid_v1(layout: Layout, *, width: int = 1024, tokens: int = 5, emb: int = 1280, vit: int = 1024) -> Shapes:
    """PuLID v1: MLPs from the face vector and from five levels of an image tower to tokens; key/value weights."""
    encoder = _mapping("body", emb, width, layout.context * tokens)
    for n in range(5):
        encoder |= _mapping(f"mapping_{n}", vit, width, layout.context)
        encoder |= _mapping(f"mapping_patch_{n}", vit, width, layout.context)
    return _under("id_adapter.", encoder) | _under("id_adapter_attn_layers.", _injection(layout, "id_to_k", "id_to_v"))


def pulid_v11(
    layout: Layout,
    *,
    dim: int = 1024,
    depth: int = 10,
    inner: int = 1024,
    queries: int = 32,
    width: int = 1024,
    tokens: int = 5,
    emb: int = 1280,
    vit: int = 1024,
) -> Shapes:
    """PuLID v1.1: a perceiver that reads one image level after another."""
    encoder: Shapes = {"latents": (1, queries, dim), "proj_out": (dim, layout.context)}
    encoder |= _perceiver_layers(dim, depth, inner)
    for n in range(5):
        encoder |= _mapping(f"mapping_{n}", vit, width, dim)
    encoder |= _mapping("id_embedding_mapping", emb, width, dim * tokens)
    return _under("id_adapter.", encoder) | _under("id_adapter_attn_layers.", _injection(layout, "id_to_k", "id_to_v"))


def arc2face_text(
    layout: Layout, *, layers: int = 12, mlp: int = 3072, vocabulary: int = 49408, positions: int = 77
) -> Shapes:
    """Arc2Face's text encoder: CLIP-L's text model with the prefix that transformers 5 dropped."""
    width = layout.context
    shapes: Shapes = {
        "embeddings.token_embedding.weight": (vocabulary, width),
        "embeddings.position_embedding.weight": (positions, width),
    }
    for n in range(layers):
        shapes |= _clip_layer(f"encoder.layers.{n}", width, mlp)
    return _under("text_model.", shapes | _norm("final_layer_norm", width))


def fact(layout: Layout, *, dim: int = 1024, depth: int = 4, inner: int = 768, queries: int = 16, emb: int = 512):
    """FaceChain-FACT: a perceiver over face patches, and a gated block before every cross-attention."""
    perceiver = resampler(dim=dim, depth=depth, inner=inner, emb=emb, out=layout.context, queries=queries)
    shapes = _under("local_fac_prj.", perceiver)
    for path, width in layout.blocks:
        gate = _linear("linear", width, layout.context)
        gate |= {f"attn.to_{part}.weight": (width, width) for part in "qkv"} | _linear("attn.to_out.0", width, width)
        gate |= _linear("ff.net.0.proj", 8 * width, width) | _linear("ff.net.2", width, 4 * width)
        gate |= _norm("norm1", width) | _norm("norm2", width) | {"alpha_attn": (), "alpha_dense": ()}
        shapes |= _under(f"{path}.attn2.processor.", gate)
    return shapes


def transface(*, width: int = 512, layers: int = 12, patch: int = 9, patches: int = 144, mlp: int = 2048) -> Shapes:
    """The part of TransFace-S that FACT uses: everything up to the normalised patch tokens."""
    shapes: Shapes = {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    shapes |= {"pos_embed": (1, patches, width)}
    for n in range(layers):
        key = f"blocks.{n}"
        shapes |= _norm(f"{key}.norm1", width) | _norm(f"{key}.norm2", width)
        shapes |= {f"{key}.attn.qkv.weight": (3 * width, width)} | _linear(f"{key}.attn.proj", width, width)
        shapes |= _linear(f"{key}.mlp.fc1", mlp, width) | _linear(f"{key}.mlp.fc2", width, mlp)
    return shapes | _norm("norm", width)


def parameters(shapes: Shapes) -> int:
    return sum(prod(shape) for shape in shapes.values())
