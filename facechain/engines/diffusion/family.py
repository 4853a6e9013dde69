"""Which family of Stable Diffusion a base is, from its configuration or the header of its file alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain.engines.weights import read_config, read_shapes
from facechain.errors import EngineError

FAMILIES = ("sd15", "sdxl")
CHANNELS = (4, 9)  # into a UNet: latents, and in inpainting bases also a mask and the latents outside of it
_FIRST_WEIGHT = "model.diffusion_model.input_blocks.0.0.weight"  # of a UNet in one file

_WHOLE = "Give the whole checkpoint, or a diffusers folder."

# What else a file may be, told by parts of its tensors' names; and what to do with it.
_OTHERS = (
    (("lora_", ".hada_", ".lokr_"), "a LoRA", "Name it with --set lora=FILE, and a base with --base."),
    (("control_model.", "controlnet_cond_embedding."), "a ControlNet", "Name a base, and what to follow with --pose."),
    (
        ("encoder.down.0.", "encoder.down_blocks.0."),
        "a VAE alone",
        "Name it with --set vae=FILE, and a base with --base.",
    ),
    (("input_blocks.0.0.weight", "down_blocks.0.resnets.0."), "a UNet alone", _WHOLE),
    (("embeddings.token_embedding.", "transformer.resblocks."), "a text encoder alone", _WHOLE),
)


def family_of(path: Path) -> str:
    """ "sd15" or "sdxl". Raises EngineError for anything else, saying what was found, PackError for damaged files."""
    if path.is_dir():
        found = _family_of_folder(path)
    elif path.is_file():
        found = _family_of_file(path)
    else:
        raise EngineError(f"There is no base model at {path}.", "Give a diffusers folder or a .safetensors file.")
    if found not in FAMILIES:
        raise EngineError(f"{path.name} is a base of the family {found}.", f"Known: {', '.join(FAMILIES)}.")
    return found


def channels_of(path: Path) -> int:
    """How many channels go into the base's UNet; more than the latents' 4 if it was made for inpainting."""
    if path.is_dir():
        return int(read_config(path / "unet" / "config.json").get("in_channels", 4))
    return read_shapes(path)[_FIRST_WEIGHT][1]


def class_of(index: Mapping[str, Any], part: str) -> str:
    """The class model_index.json names for a part of a pipeline; empty when it has none."""
    named = index.get(part)
    return named[1] if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str) else ""


def _family_of_folder(folder: Path) -> str:
    if not (folder / "model_index.json").is_file():
        alone = read_config(folder / "config.json").get("_class_name") if (folder / "config.json").is_file() else None
        what = f"holds {alone} alone" if alone else "is not a diffusers folder: it has no model_index.json"
        raise EngineError(f"{folder.name} {what}.", _WHOLE)
    index = read_config(folder / "model_index.json")
    unet = read_config(folder / "unet" / "config.json")
    if (channels := unet.get("in_channels", 4)) not in CHANNELS:
        return f"of {channels} input channels"
    if class_of(index, "text_encoder_2"):
        return "sdxl" if class_of(index, "text_encoder") else "sdxl-refiner"
    return "sd21" if unet.get("cross_attention_dim", 768) == 1024 else "sd15"


def _family_of_file(path: Path) -> str:
    shapes = read_shapes(path)
    first = shapes.get(_FIRST_WEIGHT, ())
    if len(first) < 2:
        raise _other(path, shapes)
    if first[1] not in CHANNELS:
        return f"of {first[1]} input channels"
    texts = {
        "conditioner.embedders.1.": "sdxl",
        "conditioner.embedders.0.model.": "sdxl-refiner",
        "conditioner.embedders.0.transformer.": "sdxl",  # whose second encoder is missing
        "cond_stage_model.transformer.": "sd15",
        "cond_stage_model.model.": "sd21",
    }
    for prefix, family in texts.items():
        if any(key.startswith(prefix) for key in shapes):
            return family
    raise EngineError(f"{path.name} has no text encoder.", _WHOLE)


def _other(path: Path, shapes: Mapping[str, Any]) -> EngineError:
    for marks, kind, advice in _OTHERS:
        if any(mark in key for key in shapes for mark in marks):
            return EngineError(f"{path.name} is {kind}, not a base.", advice)
    return EngineError(f"{path.name} is of a family other than Stable Diffusion 1.5 and SDXL.", _WHOLE)
