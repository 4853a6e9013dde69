"""Low-rank weights of an identity checkpoint, added to a UNet's attention for a sitting.

They are added into the weights, so painting costs nothing more; the base's own tensors wait aside and are put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from facechain.engines.identity.attention import layout_of


class Merge:
    """Attention weights of `unet` with low-rank pairs added at a scale that may be set again and again."""

    def __init__(self, unet: Any, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """`pairs`: path of a linear layer -> (down, up)."""
        self.scale = 0.0
        self._parts = [(_plain(unet.get_submodule(path)), down, up) for path, (down, up) in pairs.items()]
        self._own: list[Tensor] = []

    @torch.no_grad()
    def set(self, scale: float) -> None:
        """W + scale · up · down; at 0 the very tensors the base came with."""
        if scale == self.scale:
            return
        for (layer, _, _), own in zip(self._parts, self._own, strict=bool(self._own)):
            layer.weight.data = own.to(layer.weight.device)
        self._own = []
        for layer, down, up in self._parts if scale else ():
            own = layer.weight.data
            self._own.append(own)
            change = up.to(own.device).float() @ down.to(own.device).float()
            layer.weight.data = (own.float() + scale * change).to(own.dtype)
        self.scale = scale


def _plain(layer: Any) -> Any:
    """The linear layer under any style LoRA that peft has wrapped around it."""
    return getattr(layer, "base_layer", layer)


@contextmanager
def merged(unet: Any, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> Iterator[Merge]:
    merge = Merge(unet, pairs)
    try:
        yield merge
    finally:
        merge.set(0.0)


def numbered_pairs(unet: Any, weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """FaceID's `{i}.to_q_lora.down.weight` …, i counting self- and cross-attentions alternately."""
    pairs = {}
    for k, (path, _) in enumerate(layout_of(unet).blocks):
        for which in (0, 1):
            for part in ("to_q", "to_k", "to_v", "to_out"):
                prefix = f"{2 * k + which}.{part}_lora"
                layer = f"{path}.attn{which + 1}.{part}" + (".0" if part == "to_out" else "")
                pairs[layer] = (weights[f"{prefix}.down.weight"], weights[f"{prefix}.up.weight"])
    return pairs


def named_pairs(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """PhotoMaker's `unet.<block>.attn1.processor.to_q_lora.down.weight` …"""
    pairs = {}
    for key, down in weights.items():
        if match := re.fullmatch(r"unet\.(.+)\.processor\.(to_(?:q|k|v|out))_lora\.down\.weight", key):
            layer = f"{match[1]}.{match[2]}" + (".0" if match[2] == "to_out" else "")
            pairs[layer] = (down, weights[key.replace("_lora.down.", "_lora.up.")])
    return pairs
