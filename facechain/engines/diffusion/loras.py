"""Low-rank weights of every usual format: put into a pipeline for a sitting, and taken out bit for bit.

Formats: PEFT and diffusers (new and old names), kohya/A1111, and LyCORIS's LoHa, LoKr and full differences, with or
without DoRA magnitudes. All become a change of a layer's weight, summed in fp32 and added once, so painting costs
nothing extra. LoRA: Hu et al. 2021; LoHa: Hyeon-Woo et al. 2022; LoKr: Yeh et al. 2024; DoRA: Liu et al. 2024.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.base import safetensors_shapes
from facechain.engines.diffusion.names import spellings
from facechain.errors import EngineError


@dataclass(frozen=True, kw_only=True)
class LoraRef:
    path: Path
    scale: float = 1.0


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
    ".diff": "diff",
}
_IGNORED = re.compile(r"bundle_emb\.|.*\.lora_scale$")
_KINDS: tuple[tuple[set[str], set[str]], ...] = (  # needed, allowed beside
    ({"down", "up"}, {"mid", "alpha", "magnitude"}),
    ({"h1a", "h1b", "h2a", "h2b"}, {"ht1", "ht2", "alpha", "magnitude"}),
    ({"k1", "k2"}, {"alpha", "magnitude"}),
    ({"k1a", "k1b", "k2"}, {"alpha", "magnitude"}),
    ({"k1", "k2a", "k2b"}, {"kt2", "alpha", "magnitude"}),
    ({"k1a", "k1b", "k2a", "k2b"}, {"kt2", "alpha", "magnitude"}),
    ({"diff"}, {"diff_b", "alpha"}),
)


def read_lora(path: Path, pipe: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """(part, layer path) → its tensors by role. Every tensor of the file finds its layer, or EngineError names some."""
    from safetensors import safe_open

    safetensors_shapes(path)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    known, found, lost = spellings(pipe), {}, []
    for key, tensor in tensors.items():
        if _IGNORED.match(key):
            continue
        ending = next((e for e in _ENDINGS if key.endswith(e)), None)
        layer = known.get(_plain(key.removesuffix(ending))) if ending else None
        if ending is None or layer is None:
            lost.append(key)
            continue
        if "magnitude_vector" in ending:  # PEFT's are by output, whatever axes it pads them with for convolutions
            tensor = tensor.flatten()
        found.setdefault(layer, {})[_ENDINGS[ending]] = tensor
    if lost or not found:
        some = ", ".join(lost[:3]) or "nothing"
        raise EngineError(
            f"{path.name} does not fit this base: {len(lost)} of {len(tensors)} tensors have no layer here ({some}).",
            "Use weights made for the same base family.",
        )
    _true_alphas(found, metadata)
    for layer, roles in found.items():
        if not any(need <= set(roles) <= need | more for need, more in _KINDS):
            raise EngineError(f"{path.name} is incomplete at {'.'.join(layer)}.", "Download or export it again.")
    return found


def _plain(name: str) -> str:
    """Older diffusers names: a processor in the path, or no `unet.` in front."""
    name = name.replace(".processor.", ".").removeprefix("base_model.model.")
    if name.endswith(".to_out"):
        name += ".0"
    if name.startswith(("down_blocks.", "mid_block.", "up_blocks.")):
        name = f"unet.{name}"
    return name


def _true_alphas(found: Mapping[tuple[str, str], dict[str, Any]], metadata: Mapping[str, str]) -> None:
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


def change(roles: Mapping[str, Any], weight: Any) -> Any:
    """ΔW in fp32, shaped like the layer's `weight`, at scale 1."""
    import torch

    of = {name: tensor.to(weight.device, torch.float32) for name, tensor in roles.items()}
    if "diff" in of:
        delta, rank = of["diff"], 0
    elif "up" in of:
        delta, rank = _low_rank(of), of["down"].shape[0]
    elif "h1a" in of:
        one = _product(of["h1a"], of["h1b"], of.get("ht1"))
        delta, rank = one * _product(of["h2a"], of["h2b"], of.get("ht2")), of["h1b"].shape[0]
    else:
        first = of["k1"] if "k1" in of else of["k1a"] @ of["k1b"]
        second = of["k2"] if "k2" in of else _product(of["k2a"], of["k2b"], of.get("kt2"))
        if second.dim() > 2:
            first = first[:, :, None, None]
        # Where neither factor is itself a product there is no rank, so nothing to scale by.
        rank = of["k2b"].shape[0] if "k2b" in of else of["k1b"].shape[0] if "k1b" in of else 0
        delta = torch.kron(first, second.contiguous())
    if "alpha" in of and rank:
        delta = delta * (of["alpha"].item() / rank)
    delta = delta.reshape(weight.shape)
    if "magnitude" in of:
        delta = _with_magnitude(weight.to(torch.float32), delta, of["magnitude"])
    return delta


def _low_rank(of: Mapping[str, Any]) -> Any:
    import torch

    down, up = of["down"], of["up"].flatten(1)
    if "mid" in of:  # a convolution as three: 1×1 down, k×k between, 1×1 up
        return torch.einsum("o p, p r k l, r i -> o i k l", up, of["mid"], down.flatten(1))
    return (up @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _product(a: Any, b: Any, core: Any | None) -> Any:
    """(out, rank) · (rank, in), or the same around a k×k core."""
    import torch

    return a @ b if core is None else torch.einsum("i j k l, i p, j r -> p r k l", core, a, b)


def _with_magnitude(weight: Any, delta: Any, magnitude: Any) -> Any:
    """DoRA: the changed weight keeps its direction and takes learned lengths, by output or (older files) by input."""
    changed = (weight + delta).flatten(1)
    by_output = magnitude.dim() == 1 or magnitude.shape[0] == weight.shape[0]
    if by_output:
        changed = changed * (magnitude.flatten()[:, None] / changed.norm(dim=1, keepdim=True))
        return changed.reshape(weight.shape) - weight
    columns = (weight + delta).transpose(0, 1).flatten(1)
    columns = columns * (magnitude.flatten()[:, None] / columns.norm(dim=1, keepdim=True))
    turned = columns.reshape(weight.shape[1], weight.shape[0], *weight.shape[2:])
    return turned.transpose(0, 1) - weight


@contextmanager
def put_in(pipe: Any, loras: Sequence[LoraRef]) -> Iterator[None]:
    """Inside, the pipeline's weights are changed; afterwards, also after an exception, they are what they were."""
    import torch

    changes: dict[tuple[str, str], list[tuple[dict[str, Any], float]]] = {}
    for lora in loras:
        if lora.scale:
            for layer, roles in read_lora(lora.path, pipe).items():
                changes.setdefault(layer, []).append((roles, lora.scale))
    kept: list[tuple[Any, Any]] = []
    try:
        with torch.no_grad():
            for (part, path), several in changes.items():
                module = getattr(pipe, part).get_submodule(path)
                if module.weight.device.type == "meta":
                    raise EngineError("The base is offloaded layer by layer.", "Put weights in before offloading.")
                kept.append((module.weight, module.weight.detach().clone()))
                total = sum(scale * change(roles, module.weight) for roles, scale in several)
                module.weight.copy_((module.weight.to(torch.float32) + total).to(module.weight.dtype))
                for roles, scale in several:
                    if "diff_b" in roles and module.bias is not None:
                        kept.append((module.bias, module.bias.detach().clone()))
                        module.bias.add_(roles["diff_b"].to(module.bias), alpha=scale)
        yield
    finally:
        with torch.no_grad():
            for weight, before in reversed(kept):
                weight.copy_(before)
