"""What a LoRA, LoHa, LoKr, DoRA or full-difference layer adds to a weight.

LoRA: Hu et al. 2021; LoHa: Hyeon-Woo et al. 2022; LoKr: Yeh et al. 2024; DoRA: Liu et al. 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def change(roles: Mapping[str, Any], weight: Any) -> Any:
    """ΔW in fp32, shaped like the layer's `weight`, at scale 1. Raises RuntimeError when the shapes do not fit."""
    import torch

    of = {n: t.to(weight.device, torch.float32) for n, t in roles.items() if n not in ("alpha", "diff_b")}
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
    if "alpha" in roles and rank:
        delta = delta * (float(roles["alpha"]) / rank)
    # Convolutions may be written flat, (out, in · k · k), and 1×1 ones as linear layers, never another width.
    if delta.shape != weight.shape and delta.flatten(1).shape != weight.flatten(1).shape:
        raise RuntimeError(f"{list(delta.shape)} is added to {list(weight.shape)}")
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
    """DoRA: the changed weight keeps its direction and takes learned norms, by output or (older files) by input."""
    by_output = magnitude.dim() == 1 or magnitude.shape[0] == weight.shape[0]
    changed = weight + delta if by_output else (weight + delta).transpose(0, 1)
    rows = changed.flatten(1)
    # A row of zeros has no direction, and stays.
    rows = rows * (magnitude.reshape(rows.shape[0], 1) / rows.norm(dim=1, keepdim=True).clamp_min(1e-12))
    rows = rows.reshape(changed.shape)
    return (rows if by_output else rows.transpose(0, 1)) - weight
