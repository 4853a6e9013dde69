"""Which kind of identity checkpoint a file is, by its keys, and by its name where keys cannot tell."""

from __future__ import annotations

from pathlib import Path

from facechain.engines.identity.methods import METHODS
from facechain.engines.identity.parts import Shapes
from facechain.errors import EngineError, PackError

# The first line whose key is present names the structure; None: known, but not one we paint with.
MARKS: tuple[tuple[str, str | None, str], ...] = (
    ("FacialEncoder.visual_projection.proj_in.weight", None, "ConsistentID"),
    ("pulid_ca.0.to_q.weight", None, "PuLID for FLUX"),
    ("w_proj.proj_0.weight", None, "w-plus-adapter (looks through StyleGAN's codes)"),
    ("id_adapter.body.0.weight", "pulid_v1", ""),
    ("id_adapter.id_embedding_mapping.0.weight", "pulid_v11", ""),
    ("id_encoder.qformer_perceiver.token_norm.weight", "photomaker_v2", ""),
    ("id_encoder.visual_projection_2.weight", "photomaker_v1", ""),
    ("local_fac_prj.latents", "fact", ""),
    ("visual.blocks.0.attn.inner_attn_ln.weight", "eva_clip", ""),
    ("patch_embed.proj.weight", "transface", ""),
    ("text_model.embeddings.token_embedding.weight", "arc2face_text", ""),
    ("image_proj.proj.3.weight", None, "IP-Adapter Full Face (looks through CLIP only)"),
    ("image_proj.perceiver_resampler.proj_in.weight", "faceid_plus", ""),
    ("image_proj.latents", "instantid", ""),
    ("image_proj.norm.weight", "faceid", ""),
    ("image_proj.proj.weight", None, "plain IP-Adapter (looks through CLIP only)"),
)


def structure_of(shapes: Shapes, path: Path) -> str:
    """The builder in `formats` this file follows. Raises PackError if it follows none."""
    for key, structure, title in MARKS:
        if key not in shapes:
            continue
        if key == "image_proj.latents" and not any(name.startswith("ip_adapter.") for name in shapes):
            title, structure = "InfiniteYou's projector (for FLUX)", None
        elif key == "image_proj.latents" and shapes.get("image_proj.proj_in.weight", (0, 512))[1] != 512:
            title, structure = "IP-Adapter Plus (looks through CLIP only)", None
        if structure is None:
            raise EngineError(f"{path.name} is {title}, which no engine here uses.", "Choose a FaceID file instead.")
        if structure == "faceid" and not any("_lora." in name for name in shapes):
            return "portrait"
        return structure
    if any(key.startswith(("lora_unet_", "lora_te")) for key in shapes):
        raise EngineError(f"{path.name} is a LoRA alone.", "Choose the .bin it came with, which holds the same LoRA.")
    raise PackError(
        f"{path.name} is no identity checkpoint we know: {len(shapes)} tensors, first {next(iter(shapes), 'none')}.",
        f"Known are {', '.join(method.title for method in METHODS.values())}.",
    )


def settle(structure: str, path: Path, kinds: tuple[str, ...], asked: str) -> str:
    """Which kind, when two kinds share a structure: what was asked, else the file's name, else the neighbours."""
    able = [kind for kind, method in METHODS.items() if method.structure == structure]
    named = able[0] if len(able) == 1 else _by_name(structure, path)
    if asked:
        if asked not in able or (named and named != asked):
            raise EngineError(f"{path.name} is {METHODS[named or able[0]].title}, not {METHODS[asked].title}.")
        return asked
    if named:
        if named not in kinds:
            raise EngineError(f"{path.name} is {METHODS[named].title}.", f"Expected {_titles(kinds)}.")
        return named
    fit = [kind for kind in able if kind in kinds]
    if not fit:
        raise EngineError(f"{path.name} is {_titles(tuple(able))}.", f"Expected {_titles(kinds)}.")
    if len(fit) > 1:
        raise EngineError(
            f"{path.name} may be {_titles(tuple(fit))}: the files are built alike.",
            f"Say which: kind = {' or '.join(map(repr, fit))}.",
        )
    return fit[0]


def _titles(kinds: tuple[str, ...]) -> str:
    return " or ".join(METHODS[kind].title for kind in kinds)


def _by_name(structure: str, path: Path) -> str:
    name = path.name.lower()
    if structure == "faceid_plus":
        return "faceid-plusv2" if "plusv2" in name else "faceid-plus" if "plus" in name else ""
    if "unnorm" in name or "portrait" in name:
        return "portrait-unnorm"
    return "instantid" if name == "ip-adapter.bin" or (path.parent / "ControlNetModel").is_dir() else ""
