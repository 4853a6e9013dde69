"""The sizes of a file's networks, read from its own tensors, so that smaller files of a structure fit too."""

from __future__ import annotations

import re
from collections.abc import Callable

from facechain.engines.identity.parts import Shapes


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match.group(1) for key in shapes if (match := re.match(pattern, key))})


def _perceiver(shapes: Shapes, at: str) -> dict[str, int]:
    return {
        "depth": _count(shapes, re.escape(at) + r"layers\.(\d+)\."),
        "inner": shapes[f"{at}layers.0.0.to_q.weight"][0],
    }


def _mlp(shapes: Shapes) -> dict[str, int]:
    context = shapes["image_proj.norm.weight"][0]
    return {
        "tokens": shapes["image_proj.proj.2.weight"][0] // context,
        "emb": shapes["image_proj.proj.0.weight"][1],
    }


def _free_perceiver(shapes: Shapes, at: str) -> dict[str, int]:
    _, queries, dim = shapes[f"{at}latents"]
    return _perceiver(shapes, at) | {"dim": dim, "queries": queries, "emb": shapes[f"{at}proj_in.weight"][1]}


def _lora_rank(shapes: Shapes) -> dict[str, int]:
    return {"rank": next(shape[0] for key, shape in shapes.items() if key.endswith("_lora.down.weight"))}


def _vision(shapes: Shapes) -> dict[str, int]:
    at = "id_encoder.vision_model."
    width, _, patch, _ = shapes[at + "embeddings.patch_embedding.weight"]
    return {
        "vision": width,
        "patch": patch,
        "layers": _count(shapes, re.escape(at) + r"encoder\.layers\.(\d+)\."),
        "mlp": shapes[at + "encoder.layers.0.mlp.fc1.weight"][0],
        "positions": shapes[at + "embeddings.position_embedding.weight"][0],
        "first": shapes["id_encoder.visual_projection.weight"][0],
        **_lora_rank(shapes),
    }


def _qformer(shapes: Shapes) -> dict[str, int]:
    at = "id_encoder.qformer_perceiver."
    return {
        "tokens": shapes[at + "token_proj.2.weight"][0] // shapes[at + "token_norm.weight"][0],
        "emb": shapes[at + "token_proj.0.weight"][1],
        **_perceiver(shapes, at + "perceiver_resampler."),
        **_vision(shapes),
    }


def _pulid(shapes: Shapes, body: str) -> dict[str, int]:
    width, emb = shapes[f"id_adapter.{body}.0.weight"]
    return {"width": width, "emb": emb, "vit": shapes["id_adapter.mapping_0.0.weight"][1]}


def _pulid_v1(shapes: Shapes) -> dict[str, int]:
    context = shapes["id_adapter.mapping_0.6.weight"][0]
    return _pulid(shapes, "body") | {"tokens": shapes["id_adapter.body.6.weight"][0] // context}


def _pulid_v11(shapes: Shapes) -> dict[str, int]:
    _, queries, dim = shapes["id_adapter.latents"]
    return {
        "dim": dim,
        "queries": queries,
        "tokens": shapes["id_adapter.id_embedding_mapping.6.weight"][0] // dim,
        **_perceiver(shapes, "id_adapter."),
        **_pulid(shapes, "id_embedding_mapping"),
    }


def _text(shapes: Shapes) -> dict[str, int]:
    return {
        "layers": _count(shapes, r"text_model\.encoder\.layers\.(\d+)\."),
        "mlp": shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        "vocabulary": shapes["text_model.embeddings.token_embedding.weight"][0],
        "positions": shapes["text_model.embeddings.position_embedding.weight"][0],
    }


def _transface(shapes: Shapes) -> dict[str, int]:
    width, _, patch, _ = shapes["patch_embed.proj.weight"]
    return {
        "width": width,
        "patch": patch,
        "patches": shapes["pos_embed"][1],
        "layers": _count(shapes, r"blocks\.(\d+)\."),
        "mlp": shapes["blocks.0.mlp.fc1.weight"][0],
    }


def _eva(shapes: Shapes) -> dict[str, int]:
    width, _, patch, _ = shapes["visual.patch_embed.proj.weight"]
    return {
        "width": width,
        "patch": patch,
        "positions": shapes["visual.pos_embed"][1],
        "layers": _count(shapes, r"visual\.blocks\.(\d+)\."),
        "mlp": shapes["visual.blocks.0.mlp.w1.weight"][0],
        "out": shapes["visual.head.weight"][0],
    }


# structure -> the sizes its builder needs, read from the file's own tensors
SIZES: dict[str, Callable[[Shapes], dict[str, int]]] = {
    "portrait": _mlp,
    "faceid": lambda s: _mlp(s) | _lora_rank(s),
    "faceid_plus": lambda s: (
        _mlp(s)
        | _lora_rank(s)
        | _perceiver(s, "image_proj.perceiver_resampler.")
        | {"clip": s["image_proj.perceiver_resampler.proj_in.weight"][1]}
    ),
    "instantid": lambda s: _free_perceiver(s, "image_proj."),
    "photomaker_v1": _vision,
    "photomaker_v2": _qformer,
    "pulid_v1": _pulid_v1,
    "pulid_v11": _pulid_v11,
    "arc2face_text": _text,
    "fact": lambda s: _free_perceiver(s, "local_fac_prj."),
    "transface": _transface,
    "eva_clip": _eva,
}
