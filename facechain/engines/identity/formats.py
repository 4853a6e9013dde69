"""The tensors each published identity checkpoint holds, as tables: key -> shape.

Every builder's defaults are the published sizes; other sizes describe smaller files of the same structure. Keys are
dotted paths through the file's nested dictionaries.
"""

from __future__ import annotations

from math import prod

from facechain.engines.identity.layout import Layout
from facechain.engines.identity.parts import (
    Shapes,
    attention_loras,
    clip_layer,
    clip_vision,
    fuse,
    injection,
    linear,
    mapping,
    norm,
    perceiver_layers,
    resampler,
    token_mlp,
    under,
)


def portrait(layout: Layout, *, tokens: int = 16, emb: int = 512) -> Shapes:
    """IP-Adapter FaceID Portrait: an MLP to tokens, and key/value weights."""
    return under("image_proj.", token_mlp(layout.context, tokens, emb)) | under(
        "ip_adapter.", injection(layout, "to_k_ip", "to_v_ip")
    )


def faceid(layout: Layout, *, tokens: int = 4, emb: int = 512, rank: int = 128) -> Shapes:
    """IP-Adapter FaceID: as Portrait, with low-rank weights on every attention."""
    loras = dict(attention_loras(layout, rank, lambda k, path, which: f"ip_adapter.{2 * k + which}"))
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
    return faceid(layout, tokens=tokens, emb=emb, rank=rank) | under("image_proj.perceiver_resampler.", perceiver)


def instantid(
    layout: Layout, *, dim: int = 1280, depth: int = 4, inner: int = 1280, queries: int = 16, emb: int = 512
) -> Shapes:
    """InstantID's adapter and FaceID Portrait-unnorm, which are equal: a perceiver, and key/value weights."""
    perceiver = resampler(dim=dim, depth=depth, inner=inner, emb=emb, out=layout.context, queries=queries)
    return under("image_proj.", perceiver) | under("ip_adapter.", injection(layout, "to_k_ip", "to_v_ip"))


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
    encoder = under("vision_model.", clip_vision(vision, layers, mlp, patch, positions))
    encoder |= {
        "visual_projection.weight": (first, vision),
        "visual_projection_2.weight": (layout.context - first, vision),
    }
    encoder |= under("fuse_module.", fuse(layout.context))

    def place(k: int, path: str, which: int) -> str:
        return f"lora_weights.unet.{path}.attn{which + 1}.processor"

    return under("id_encoder.", encoder) | dict(attention_loras(layout, rank, place))


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
    q = linear("token_proj.0", 4 * emb, emb) | linear("token_proj.2", dim * tokens, 4 * emb)
    q |= norm("token_norm", dim)
    q |= under("perceiver_resampler.", resampler(dim=dim, depth=depth, inner=inner or dim, emb=vision, out=dim))
    return photomaker_v1(layout, vision=vision, **v1) | under("id_encoder.qformer_perceiver.", q)


def pulid_v1(layout: Layout, *, width: int = 1024, tokens: int = 5, emb: int = 1280, vit: int = 1024) -> Shapes:
    """PuLID v1: MLPs from the face vector and from five levels of an image tower to tokens; key/value weights."""
    encoder = mapping("body", emb, width, layout.context * tokens)
    for n in range(5):
        encoder |= mapping(f"mapping_{n}", vit, width, layout.context)
        encoder |= mapping(f"mapping_patch_{n}", vit, width, layout.context)
    return under("id_adapter.", encoder) | under("id_adapter_attn_layers.", injection(layout, "id_to_k", "id_to_v"))


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
    encoder |= perceiver_layers(dim, depth, inner)
    for n in range(5):
        encoder |= mapping(f"mapping_{n}", vit, width, dim)
    encoder |= mapping("id_embedding_mapping", emb, width, dim * tokens)
    return under("id_adapter.", encoder) | under("id_adapter_attn_layers.", injection(layout, "id_to_k", "id_to_v"))


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
        shapes |= clip_layer(f"encoder.layers.{n}", width, mlp)
    return under("text_model.", shapes | norm("final_layer_norm", width))


def fact(layout: Layout, *, dim: int = 1024, depth: int = 4, inner: int = 768, queries: int = 16, emb: int = 512):
    """FaceChain-FACT: a perceiver over face patches, and a gated block before every cross-attention."""
    perceiver = resampler(dim=dim, depth=depth, inner=inner, emb=emb, out=layout.context, queries=queries)
    shapes = under("local_fac_prj.", perceiver)
    for path, width in layout.blocks:
        gate = linear("linear", width, layout.context)
        gate |= {f"attn.to_{part}.weight": (width, width) for part in "qkv"} | linear("attn.to_out.0", width, width)
        gate |= linear("ff.net.0.proj", 8 * width, width) | linear("ff.net.2", width, 4 * width)
        gate |= norm("norm1", width) | norm("norm2", width) | {"alpha_attn": (), "alpha_dense": ()}
        shapes |= under(f"{path}.attn2.processor.", gate)
    return shapes


def transface(*, width: int = 512, layers: int = 12, patch: int = 9, patches: int = 144, mlp: int = 2048) -> Shapes:
    """The part of TransFace-S that FACT uses: everything up to the normalised patch tokens."""
    shapes: Shapes = {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    shapes |= {"pos_embed": (1, patches, width)}
    for n in range(layers):
        key = f"blocks.{n}"
        shapes |= norm(f"{key}.norm1", width) | norm(f"{key}.norm2", width)
        shapes |= {f"{key}.attn.qkv.weight": (3 * width, width)} | linear(f"{key}.attn.proj", width, width)
        shapes |= linear(f"{key}.mlp.fc1", mlp, width) | linear(f"{key}.mlp.fc2", width, mlp)
    return shapes | norm("norm", width)


def eva_clip(
    *, width: int = 1024, layers: int = 24, mlp: int = 2730, patch: int = 14, positions: int = 577, out: int = 768
) -> Shapes:
    """The image side of EVA02-CLIP-L-14-336, which PuLID looks through; the file's text side is not listed."""
    shapes: Shapes = {"cls_token": (1, 1, width), "pos_embed": (1, positions, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    for n in range(layers):
        key = f"blocks.{n}"
        shapes |= norm(f"{key}.norm1", width) | norm(f"{key}.norm2", width)
        shapes |= {f"{key}.attn.{part}_bias": (width,) for part in "qv"}
        shapes |= {f"{key}.attn.{part}_proj.weight": (width, width) for part in "qkv"}
        shapes |= norm(f"{key}.attn.inner_attn_ln", width) | linear(f"{key}.attn.proj", width, width)
        shapes |= linear(f"{key}.mlp.w1", mlp, width) | linear(f"{key}.mlp.w2", mlp, width)
        shapes |= norm(f"{key}.mlp.ffn_ln", mlp) | linear(f"{key}.mlp.w3", width, mlp)
    return under("visual.", shapes | norm("norm", width) | linear("head", out, width))


def parameters(shapes: Shapes) -> int:
    return sum(prod(shape) for shape in shapes.values())
