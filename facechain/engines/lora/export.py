"""What was learned as files other programs read: PEFT/diffusers, and kohya/A1111 with its true alpha."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.names import dotted, underscored
from facechain.engines.lora.adapters import NAME, Adapters
from facechain.engines.lora.job import write_whole

Layers = dict[tuple[str, str], dict[str, Any]]  # (part, path) → down, up, magnitude

_ROLES = {"lora_A.weight": "down", "lora_B.weight": "up", "lora_magnitude_vector": "magnitude"}


def layers_of(adapters: Adapters) -> Layers:
    from peft import get_peft_model_state_dict

    made: Layers = {}
    for part, model in adapters.models.items():
        for key, value in get_peft_model_state_dict(model, adapter_name=NAME).items():
            ending = next(e for e in _ROLES if key.endswith(f".{e}"))
            layer = made.setdefault((part, key.removesuffix(f".{ending}")), {})
            layer[_ROLES[ending]] = value.detach().float().cpu().contiguous()
    return made


def write_peft(adapters: Adapters, path: Path, notes: Mapping[str, Any]) -> None:
    """diffusers' `load_lora_weights` reads it; alpha and rank stand in the header, text encoders as published.

    Magnitudes end in `.weight`: without it transformers takes a text encoder's for unknown and leaves them out.
    """
    from safetensors.torch import save

    ending = {role: name for name, role in _ROLES.items()} | {"magnitude": "lora_magnitude_vector.weight"}
    tensors = {
        f"{dotted(part, layer)[0]}.{ending[role]}": value
        for (part, layer), roles in layers_of(adapters).items()
        for role, value in roles.items()
    }
    configs = {
        f"{part}.{key}": value
        for part, model in adapters.models.items()
        for key, value in model.peft_config[NAME].to_dict().items()
    }
    packed = json.dumps(
        configs, sort_keys=True, default=lambda value: sorted(value) if isinstance(value, set) else str(value)
    )
    metadata = {"format": "pt", "lora_adapter_metadata": packed, "facechain": json.dumps(dict(notes))}
    write_whole(path, save(tensors, metadata))


def write_kohya(pipe: Any, adapters: Adapters, path: Path, notes: Mapping[str, Any]) -> None:
    """One alpha a layer, as trained: diffusers' own exporter writes the rank there, which changes the strength."""
    import torch
    from safetensors.torch import save

    config = adapters.models["unet"].peft_config[NAME]
    rank, alpha = config.r, float(config.lora_alpha)
    tensors = {}
    for (part, layer), roles in layers_of(adapters).items():
        name = underscored(pipe, part, layer)[0]
        tensors[f"{name}.lora_down.weight"] = roles["down"]
        tensors[f"{name}.lora_up.weight"] = roles["up"]
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
        if "magnitude" in roles:
            # By output, as LyCORIS and ComfyUI divide it by the norms: one axis for each of the weight's.
            weight = getattr(pipe, part).get_submodule(layer).weight
            tensors[f"{name}.dora_scale"] = roles["magnitude"].reshape(-1, *[1] * (weight.dim() - 1))
    xl = hasattr(pipe, "text_encoder_2")
    base = "stable-diffusion-xl-v1-base" if xl else "stable-diffusion-v1"
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": json.dumps({"dora_wd": True} if config.use_dora else {}),
        "ss_base_model_version": "sdxl_base_v1-0" if xl else "sd_v1",
        "ss_v2": "False",
        "ss_output_name": str(notes.get("title", "person")),
        "ss_sd_model_name": str(notes.get("base", "")),
        "ss_steps": str(notes.get("step", "")),
        "ss_seed": str(notes.get("seed", "")),
        "ss_resolution": str((notes.get("resolution_px", 512),) * 2),
        "ss_learning_rate": str(notes.get("learning_rate", "")),
        "ss_optimizer": str(notes.get("optimizer", "")),
        "ss_tag_frequency": json.dumps({"photos": {str(notes.get("subject", "")): notes.get("photos", 0)}}),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{base}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": str(notes.get("title", "person")),
        "modelspec.trigger_phrase": str(notes.get("subject", "")),
        "modelspec.resolution": f"{notes.get('resolution_px', 512)}x{notes.get('resolution_px', 512)}",
        "modelspec.prediction_type": "epsilon",
    }
    plain = save(tensors)
    # As kohya's scripts do: over what follows the header of a file without metadata.
    length = int.from_bytes(plain[:8], "little")
    metadata["sshs_model_hash"] = hashlib.sha256(plain[8 + length :]).hexdigest()
    write_whole(path, save(tensors, metadata))
