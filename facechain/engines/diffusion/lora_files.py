"""Reads files of low-rank weights: every tensor finds its layer in a pipeline, or the file is refused by name.

Formats: PEFT and diffusers (new and old names), kohya/A1111, ComfyUI and SimpleTuner, and LyCORIS's LoHa, LoKr, norms
and full differences, with or without DoRA magnitudes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.lora_maths import change
from facechain.engines.diffusion.names import spellings
from facechain.engines.weights import read_header
from facechain.errors import EngineError

log = logging.getLogger(__name__)

Layer = tuple[str, str]  # part of the pipeline, path of the layer in it

# Ending of a tensor's name → what it is. Longest first, so that one does not shadow another.
_ENDINGS = {
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector": "magnitude",
    ".lora_down.weight": "down",
    ".lora_mid.weight": "mid",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".dora_scale": "magnitude",
    ".alpha": "alpha",
    ".hada_w1_a": "h1a",
    ".hada_w1_b": "h1b",
    ".hada_w2_a": "h2a",
    ".hada_w2_b": "h2b",
    ".hada_t1": "ht1",
    ".hada_t2": "ht2",
    ".lokr_w1_a": "k1a",
    ".lokr_w1_b": "k1b",
    ".lokr_w2_a": "k2a",
    ".lokr_w2_b": "k2b",
    ".lokr_w1": "k1",
    ".lokr_w2": "k2",
    ".lokr_t2": "kt2",
    ".diff_b": "diff_b",
    ".b_norm": "diff_b",
    ".w_norm": "diff",
    ".diff": "diff",
}
_KINDS: tuple[tuple[set[str], set[str]], ...] = (  # needed, allowed beside; so is diff_b, anywhere
    ({"down", "up"}, {"mid", "alpha", "magnitude"}),
    ({"h1a", "h1b", "h2a", "h2b"}, {"ht1", "ht2", "alpha", "magnitude"}),
    ({"k1", "k2"}, {"alpha", "magnitude"}),
    ({"k1a", "k1b", "k2"}, {"alpha", "magnitude"}),
    ({"k1", "k2a", "k2b"}, {"kt2", "alpha", "magnitude"}),
    ({"k1a", "k1b", "k2a", "k2b"}, {"kt2", "alpha", "magnitude"}),
    ({"diff"}, {"alpha"}),
    ({"diff_b"}, {"alpha"}),
)
_IGNORED = re.compile(r".*\.lora_scale$")
# PEFT before it writes a file keeps the adapter's name: lora_A.default.weight.
_ADAPTER = re.compile(r"(\.(?:lora_A|lora_B|lora_magnitude_vector|hada_\w+|lokr_\w+))\.(?!weight$)[^.]+(?=\.weight$|$)")
# A textual inversion embedding packed into the file: A1111 gives its name a meaning in prompts.
_BUNDLED = re.compile(r"bundle_emb\.([^.]+)\.")
# In some tensor's name → what else a file may be.
_UNREAD = {
    r"\.(oft_blocks|oft_diag|oft_[rR])\b": "an OFT or BOFT file (orthogonal fine-tuning)",
    r"\.[ab][12]\.weight$": "a GLoRA file",
    r"\.(on_input|ia3_l)\b": "an IA3 file",
    r"\.vera_lambda": "a VeRA file",
    r"^(emb_params|clip_[lg]|string_to_param\b.*)$": "a textual inversion embedding",
    r"^(control_model|controlnet_\w+|input_hint_block)\.": "a ControlNet",
    r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.": "a whole base model",
}
_READ = "LoRA, LoHa, LoKr, DoRA, norms and full differences are read."


def read_lora(path: Path, pipe: Any) -> dict[Layer, dict[str, Any]]:
    """Each layer the file changes → its tensors by role. Raises EngineError, naming what does not fit this pipeline."""
    tensors, metadata = _tensors(path)
    if embeddings := sorted({found[1] for key in tensors if (found := _BUNDLED.match(key))}):
        log.warning(
            "%s also holds textual inversion embeddings (%s): they are not loaded, so those words mean nothing here.",
            path.name,
            ", ".join(embeddings),
        )
    known, found, lost = spellings(pipe), {}, []
    for key, tensor in tensors.items():
        if _IGNORED.match(key) or _BUNDLED.match(key):
            continue
        name = _ADAPTER.sub(r"\1", key)
        ending = next((e for e in _ENDINGS if name.endswith(e)), None)
        layer = known.get(_plain(name.removesuffix(ending))) if ending else None
        if ending is None or layer is None:
            lost.append(key)
            continue
        roles, role = found.setdefault(layer, {}), _ENDINGS[ending]
        if role in roles:
            raise EngineError(
                f"{path.name} names {'.'.join(layer)} twice: {key}.", "Give each adapter a file of its own."
            )
        # PEFT's magnitudes are by output, whatever axes it pads them with for convolutions.
        roles[role] = tensor.flatten() if "magnitude_vector" in ending else tensor
    if lost or not found:
        raise _unfit(path, lost, len(tensors))
    _true_alphas(found, metadata)
    for layer, roles in found.items():
        if not any(need <= roles.keys() <= need | more | {"diff_b"} for need, more in _KINDS):
            raise EngineError(f"{path.name} is incomplete at {'.'.join(layer)}.", "Download or export it again.")
        _check_shapes(path, layer, roles, getattr(pipe, layer[0]).get_submodule(layer[1]))
    return found


def _tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """All tensors by name, whole and of finite numbers, and the header's metadata."""
    from safetensors import SafetensorError, safe_open

    if read_header(path) is None:
        raise EngineError(f"{path.name} may run code when opened.", "Convert it to .safetensors first.")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        raise EngineError(f"{path.name} is cut short or damaged.", "Download or export it again.") from None
    if not tensors:
        raise EngineError(f"{path.name} holds no tensors, only a header.", "Download or export it again.")
    if broken := next((key for key, tensor in tensors.items() if not tensor.float().isfinite().all()), ""):
        raise EngineError(
            f"{path.name} holds numbers that are not finite, at {broken}.",
            "Its training diverged, or the file is damaged: use another one.",
        )
    return tensors, metadata


def _unfit(path: Path, lost: list[str], count: int) -> EngineError:
    for mark, what in _UNREAD.items():
        if any(re.search(mark, key) for key in lost):
            return EngineError(f"{path.name} is {what}.", _READ)
    some = ", ".join(lost[:3])
    return EngineError(
        f"{path.name} does not fit this base: {len(lost)} of {count} tensors have no layer here ({some}).",
        "Use weights made for the same base family.",
    )


def _plain(name: str) -> str:
    """Older diffusers names: a processor in the path, or no `unet.` in front."""
    name = name.replace(".processor.", ".").removeprefix("base_model.model.")
    if name.endswith(".to_out"):
        name += ".0"
    if name.startswith(("down_blocks.", "mid_block.", "up_blocks.")):
        name = f"unet.{name}"
    return name


def _true_alphas(found: Mapping[Layer, dict[str, Any]], metadata: Mapping[str, str]) -> None:
    """PEFT files carry alpha in their header: one for all layers of a part, and exceptions by pattern."""
    import torch

    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        config = {}
    for (part, path), roles in found.items():
        if "alpha" in roles or "down" not in roles or f"{part}.lora_alpha" not in config:
            continue
        alpha = config[f"{part}.lora_alpha"]
        for pattern, other in (config.get(f"{part}.alpha_pattern") or {}).items():
            if re.search(rf"(^|\.){pattern}$", path):
                alpha = other
        if config.get(f"{part}.use_rslora"):
            alpha = alpha * roles["down"].shape[0] ** 0.5
        roles["alpha"] = torch.tensor(float(alpha))


def _check_shapes(path: Path, layer: Layer, roles: Mapping[str, Any], module: Any) -> None:
    """Computed without numbers, on the meta device."""
    shapes = {name: value if name == "alpha" else value.to("meta") for name, value in roles.items()}
    try:
        if roles.keys() - {"alpha", "diff_b"}:
            change(shapes, module.weight.to("meta"))
        if "diff_b" in roles and (module.bias is None or roles["diff_b"].shape != module.bias.shape):
            own = "no bias" if module.bias is None else list(module.bias.shape)
            raise RuntimeError(f"{list(roles['diff_b'].shape)} is added to {own}")
    except (RuntimeError, IndexError, ValueError):
        theirs = ", ".join(f"{name} {_shape(value)}" for name, value in roles.items() if name != "alpha")
        raise EngineError(
            f"{path.name} does not fit this base: {'.'.join(layer)} is {_shape(module.weight)} here, "
            f"and the file was made for another shape ({theirs}).",
            "Use weights made for the same base family.",
        ) from None


def _shape(tensor: Any) -> str:
    return "×".join(map(str, tensor.shape))
