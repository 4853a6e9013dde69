"""Opens an identity checkpoint safely, names its kind by its keys, and refuses by name what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.identity import formats
from facechain.engines.identity.layout import SD15, SDXL, Layout
from facechain.engines.identity.methods import METHODS
from facechain.engines.identity.naming import settle, structure_of
from facechain.engines.identity.parts import Shapes
from facechain.engines.identity.sizes import SIZES
from facechain.engines.weights import check_finite, read_tensors
from facechain.errors import EngineError, PackError


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
    tensors = {_renamed(key): value for key, value in read_tensors(path).items()}
    for mark, prefix in BARE.items():
        if mark in tensors:
            tensors = {prefix + key: value for key, value in tensors.items()}
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    structure = structure_of(shapes, path)
    found = settle(structure, path, kinds, kind)
    if structure in BASELESS:
        _check_keys(structure, shapes, SD15, path)
    elif layout is not None:
        _check_family(structure, shapes, layout, METHODS[found].title)
        _check_keys(structure, shapes, layout, path)
    if structure in BASELESS or layout is not None:
        check_finite(tensors, path)
    return Checkpoint(kind=found, path=path, tensors=tensors)


ALIASES = {"adapter_modules": "ip_adapter", "image_proj_model": "image_proj"}


def _renamed(key: str) -> str:
    top, *rest = key.split(".")
    return ".".join([ALIASES.get(top, top), *rest])


# Files that were written without the prefix of the part they hold: a key of theirs -> the prefix. transformers 5, for
# one, writes text models so.
BARE = {"embeddings.token_embedding.weight": "text_model.", "blocks.0.attn.inner_attn_ln.weight": "visual."}
BASELESS = ("transface", "eva_clip")  # structures that know nothing of the base

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


# structure -> keys that may be there or not; all but FACT's layer norms are left unused
SPARE: dict[str, str] = {
    "photomaker_v1": r"id_encoder\.vision_model\.embeddings\.position_ids$",
    "photomaker_v2": r"id_encoder\.vision_model\.embeddings\.position_ids$",
    "arc2face_text": r"text_model\.embeddings\.position_ids$",
    "fact": r".*\.processor\.ln\.(weight|bias)$",  # the base's layer norm as it was in training
    "transface": r"(feature|senet)\.|mask_token$",  # the recognition head
    "eva_clip": r"text\.|logit_scale$|visual\.(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)$",  # the text side
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
    expected: Shapes = builder(**sizes) if structure in BASELESS else builder(layout, **sizes)
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
