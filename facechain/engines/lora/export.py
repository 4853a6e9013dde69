"""What was learned as files other programs read, each file named for the programs that read it right.

ComfyUI finds only some layers of diffusers' file and not their alpha, diffusers finds everything in both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.lora_maths import change
from facechain.engines.diffusion.names import dotted, underscored
from facechain.engines.lora.adapters import NAME, Adapters
from facechain.engines.lora.job import write_whole

DIFFUSERS = "lora_diffusers.safetensors"
WEBUI = "lora_webui_comfyui.safetensors"  # A1111, Forge, ComfyUI and kohya's scripts
_FORMERLY = "lora.safetensors"  # DIFFUSERS, in trainings of earlier versions

Layers = dict[tuple[str, str], dict[str, Any]]  # (part, path) → down, up, magnitude

_ROLES = {"lora_A.weight": "down", "lora_B.weight": "up", "lora_magnitude_vector": "magnitude"}


def weights_in(result: Path) -> Path:
    """The file in a training's result that we paint with."""
    former = result / _FORMERLY
    return former if former.is_file() else result / DIFFUSERS


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
    """Plain LoRA in kohya's names. One alpha a layer, as trained: diffusers' own exporter writes the rank there, which
    changes the strength.

    A DoRA is written as its whole change (`_as_lora`): each program takes its magnitudes (`dora_scale`) for something
    else. A1111 has them by input, ComfyUI divides by the norms of the unchanged weight, kohya's scripts and diffusers
    leave them out.
    """
    import torch
    from safetensors.torch import save

    config = adapters.models["unet"].peft_config[NAME]
    rank, alpha = config.r, float(config.lora_alpha)
    tensors = {}
    for (part, layer), roles in layers_of(adapters).items():
        name = underscored(pipe, part, layer)[0]
        roles["alpha"] = torch.tensor(alpha)
        if "magnitude" in roles:
            weight = getattr(pipe, part).get_submodule(layer).weight.detach()
            by_output = {"magnitude": roles["magnitude"].flatten()}  # peft pads a convolution's
            roles = _as_lora(change(roles | by_output, weight.cpu()))
        endings = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
        tensors |= {f"{name}.{endings[role]}": value for role, value in roles.items()}
    xl = hasattr(pipe, "text_encoder_2")
    base = "stable-diffusion-xl-v1-base" if xl else "stable-diffusion-v1"
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": json.dumps({}),
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
    metadata["sshs_model_hash"] = hashlib.sha256(memoryview(plain)[8 + length :]).hexdigest()
    del plain  # as large as a good part of the base, for a DoRA
    write_whole(path, save(tensors, metadata))


def _as_lora(delta: Any) -> dict[str, Any]:
    """ΔW (out, in, …) as a LoRA of scale 1: itself times an identity matrix, for no smaller rank holds a DoRA's change.

    In half precision, the largest power of two in the identity: within 0.05 % of the change. There is no alpha, for
    diffusers mixes up those of layers of different ranks.
    """
    import torch

    out, into = delta.shape[0], delta.shape[1]
    size = torch.exp2(delta.abs().max().log2().ceil().clamp(-14, 15))  # what half precision holds exactly
    shares = (delta / size).half().contiguous()
    if delta.dim() == 2 and into < out:
        return {"up": shares, "down": (torch.eye(into) * size).half()}
    identity = (torch.eye(out) * size).half().reshape(out, out, *[1] * (delta.dim() - 2))
    return {"up": identity, "down": shares}
