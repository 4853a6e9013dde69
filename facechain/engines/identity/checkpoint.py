"""Opens an identity checkpoint safely, names its kind by its keys, and refuses by name what does not fit.

Pickles go through torch's weights-only reader, memory-mapped where the container allows; nothing in a file is run.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.identity import formats
from facechain.engines.identity.formats import SD15, SDXL, Layout, Shapes
from facechain.engines.identity.methods import METHODS
from facechain.errors import EngineError, PackError, PackMissing


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A file that fits: its kind and its tensors by dotted key, on the CPU."""

    kind: str
    path: Path
    tensors: Mapping[str, Any]  # torch.Tensor

    def under(self, prefix: str) -> dict[str, Any]:
        """The tensors below `prefix`, with it removed."""
        return {key[len(prefix) :]: value for key, value in self.tensors.items() if key.startswith(prefix)}


def open_checkpoint(path: Path, *, kinds: tuple[str, ...], layout: Layout | None, kind: str = "") -> Checkpoint:
    """The file at `path` if it is one of `kinds` and complete for a base of this `layout`; without, it is only named.

    `kind` settles what keys cannot tell (Plus from PlusV2, InstantID from Portrait-unnorm) when the file's name does
    not either. Raises PackError for damaged, unsafe or unknown files, EngineError for good files that do not fit.
    """
    if kind and kind not in kinds:
        raise EngineError(f"There is no kind {kind!r} here.", f"Use one of {', '.join(kinds)}.")
    tensors = read_tensors(path)
    if "embeddings.token_embedding.weight" in tensors:  # transformers 5 writes text models without their prefix
        tensors = {f"text_model.{key}": value for key, value in tensors.items()}
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    structure = structure_of(shapes, path)
    found = _settle(structure, path, kinds, kind)
    if structure == "transface":
        _check_keys(structure, shapes, SD15, path)
    elif layout is not None:
        _check_family(structure, shapes, layout, METHODS[found].title)
        _check_keys(structure, shapes, layout, path)
    return Checkpoint(kind=found, path=path, tensors=tensors)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


ALIASES = {"adapter_modules": "ip_adapter", "image_proj_model": "image_proj"}


def read_tensors(path: Path) -> dict[str, Any]:
    """Dotted key -> CPU tensor. Raises PackMissing, or PackError if truncated, unsafe or not a weight file."""
    if not path.is_file():
        raise PackMissing(f"{path.name} is not there.", "Fetch the pack it belongs to.")
    tree = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    flat: dict[str, Any] = {}
    _flatten(tree, "", flat, path)
    return {_renamed(key): value for key, value in flat.items()}


def _renamed(key: str) -> str:
    top, *rest = key.split(".")
    return ".".join([ALIASES.get(top, top), *rest])


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _read_pickle(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        # torch wraps both refusals and damage in its weights-only advice; a refusal names what it would have called.
        if not (called := re.search(r"GLOBAL (\S+)|Trying to call (?:reduce|instantiate) (\S+)", str(error))):
            raise _damaged(path, "its contents are not readable") from None
        raise PackError(
            f"{path.name} holds more than tensors and could run code when opened: {called[1] or called[2]}.",
            "Get it from its publisher, as safetensors if there is one.",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception | str) -> PackError:
    reason = str(error).strip().split("\n")[0][:160]
    return PackError(
        f"{path.name} is cut short or not a weight file ({path.stat().st_size:,} bytes): {reason}.", "Fetch it again."
    )


def _flatten(node: Any, prefix: str, into: dict[str, Any], path: Path) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            _flatten(value, f"{prefix}.{key}" if prefix else str(key), into, path)
    elif hasattr(node, "shape"):
        into[prefix] = node
    else:
        raise PackError(f"{path.name} holds a {type(node).__name__} at {prefix!r}.", "Expected only tensors.")


# ── naming ───────────────────────────────────────────────────────────────────────────────────────────────────────────


# The first line whose key is present names the structure; None: known, but not one we paint with.
MARKS: tuple[tuple[str, str | None, str], ...] = (
    ("FacialEncoder.visual_projection.proj_in.weight", None, "ConsistentID"),
    ("pulid_ca.0.to_q.weight", None, "PuLID for FLUX"),
    ("id_adapter.body.0.weight", "pulid_v1", ""),
    ("id_adapter.id_embedding_mapping.0.weight", "pulid_v11", ""),
    ("id_encoder.qformer_perceiver.token_norm.weight", "photomaker_v2", ""),
    ("id_encoder.visual_projection_2.weight", "photomaker_v1", ""),
    ("local_fac_prj.latents", "fact", ""),
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
    raise PackError(
        f"{path.name} is no identity checkpoint we know: {len(shapes)} tensors, first {next(iter(shapes), 'none')}.",
        f"Known are {', '.join(method.title for method in METHODS.values())}.",
    )


def _settle(structure: str, path: Path, kinds: tuple[str, ...], asked: str) -> str:
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


# ── fitting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


# structure -> the tensor whose given dimension is the base's token width
CONTEXT: dict[str, tuple[str, int]] = {
    "faceid": ("ip_adapter.1.to_k_ip.weight", 1),
    "faceid_plus": ("ip_adapter.1.to_k_ip.weight", 1),
    "portrait": ("ip_adapter.1.to_k_ip.weight", 1),
    "instantid": ("ip_adapter.1.to_k_ip.weight", 1),
    "photomaker_v1": ("id_encoder.fuse_module.layer_norm.weight", 0),
    "photomaker_v2": ("id_encoder.fuse_module.layer_norm.weight", 0),
    "pulid_v1": ("id_adapter_attn_layers.1.id_to_k.weight", 1),
    "pulid_v11": ("id_adapter_attn_layers.1.id_to_k.weight", 1),
    "arc2face_text": ("text_model.final_layer_norm.weight", 0),
    "fact": ("local_fac_prj.norm_out.weight", 0),
}


def _check_family(structure: str, shapes: Shapes, layout: Layout, title: str) -> None:
    key, axis = CONTEXT[structure]
    if key not in shapes or shapes[key][axis] == layout.context:
        return  # a missing key is reported with the others
    families = {SD15.context: "sd15", SDXL.context: "sdxl"}
    width = shapes[key][axis]
    raise EngineError(
        f"This {title} file is for {families.get(width, 'another')} bases (tokens {width} wide), but the base is "
        f"{layout.family} ({layout.context} wide).",
        f"Choose a {families.get(width, 'matching')} base, or the file's {layout.family} sister.",
    )


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
}

# structure -> keys that may be there and are not used
SPARE: dict[str, str] = {
    "photomaker_v1": r"id_encoder\.vision_model\.embeddings\.position_ids$",
    "photomaker_v2": r"id_encoder\.vision_model\.embeddings\.position_ids$",
    "arc2face_text": r"text_model\.embeddings\.position_ids$",
    "fact": r".*\.processor\.ln\.(weight|bias)$",  # a copy of the base's own layer norm
    "transface": r"(feature|senet)\.|mask_token$",  # the recognition head
}


def _check_keys(structure: str, shapes: Shapes, layout: Layout, path: Path) -> None:
    try:
        sizes = SIZES[structure](shapes)
    except KeyError as error:
        raise _unfit(path, structure, "lacks", [str(error.args[0])]) from None
    except StopIteration:
        raise _unfit(path, structure, "lacks", ["every low-rank (…_lora.down) tensor"]) from None
    except (ValueError, IndexError):  # a tensor that tells sizes has another number of dimensions
        raise _unfit(path, structure, "has wrongly shaped", ["those that tell its sizes"]) from None
    builder = getattr(formats, structure)
    expected: Shapes = builder(**sizes) if structure == "transface" else builder(layout, **sizes)
    spare = re.compile(SPARE.get(structure, r"(?!)"))
    if missing := [key for key in expected if key not in shapes]:
        raise _unfit(path, structure, "lacks", missing)
    if extra := [key for key in shapes if key not in expected and not spare.match(key)]:
        raise _unfit(path, structure, "has unknown", extra)
    if odd := [f"{k} {shapes[k]} instead of {expected[k]}" for k in expected if shapes[k] != expected[k]]:
        raise _unfit(path, structure, "has wrongly shaped", odd)


def _unfit(path: Path, structure: str, verb: str, keys: list[str]) -> PackError:
    shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    title = next(method.title for method in METHODS.values() if method.structure == structure)
    return PackError(
        f"{path.name} looks like {title} but {verb} tensors: {shown}.", "Fetch it again, or choose its matching base."
    )
