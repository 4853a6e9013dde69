"""FaceChain-FACT: patch tokens of a face-recognition transformer pass a gate before every cross-attention.

The gate is GLIGEN's (Li et al. 2023): picture tokens and face tokens attend to each other, then a gated feed-forward;
only the picture tokens go on. Text cross-attention is untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facechain.engines.identity.attention import Dial, for_rows, layout_of
from facechain.engines.identity.perceiver import adopt, heads
from facechain.errors import PackError


class JointAttention(nn.Module):
    """Picture tokens look at themselves and at the face tokens, whose keys and values are the same at every step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, face: tuple[Tensor, Tensor], count: int) -> Tensor:
        key, value = (torch.cat([to(x), part], dim=1) for to, part in zip((self.to_k, self.to_v), face, strict=True))
        query, key, value = (heads(part, count) for part in (self.to_q(x), key, value))
        return self.to_out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Geglu(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * functional.gelu(gate)


class Gate(nn.Module):
    """Picture tokens (B, N, width) and what is remembered of the face -> the picture tokens, changed.

    `open_by` says by how much it is open, for the attention and for the feed-forward.
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context, width)
        self.attn = JointAttention(width)
        # The published names skip a number where a dropout stood.
        self.ff = nn.ModuleDict({"net": nn.ModuleDict({"0": Geglu(width), "2": nn.Linear(4 * width, width)})})
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.alpha_attn, self.alpha_dense = (nn.Parameter(torch.zeros(())) for _ in range(2))

    def remembered(self, face: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (B, T, width), of face tokens (B, T, context), which no step changes."""
        normed = self.norm1(self.linear(face))
        return self.attn.to_k(normed), self.attn.to_v(normed)

    def forward(self, picture: Tensor, face: tuple[Tensor, Tensor], count: int, open_by: tuple[float, float]) -> Tensor:
        attended, fed = open_by
        went = torch.add(picture, self.attn(self.norm1(picture), face, count), alpha=attended)
        net = self.ff["net"]
        return torch.add(went, net["2"](net["0"](self.norm2(went))), alpha=fed)  # type: ignore[index]


class GatedAttention:
    """An attention processor: the gate, then a layer norm and the block's cross-attention.

    The block's `norm2` is bypassed while this is in, so that the gate sees the picture tokens themselves. Behind the
    gate comes `gated_norm`, the one the gate was trained with; at scale 0 the block's own.
    """

    face: tuple[Tensor, Tensor]  # what the gate remembers of it, each (2, T, width), negative first

    def __init__(self, original: Any, norm: nn.Module, gated_norm: nn.Module, gate: Gate, dial: Dial) -> None:
        self.original, self.norm, self.gated_norm, self.gate, self.dial = original, norm, gated_norm, gate, dial
        self.alphas = tuple(float(alpha.detach().float().tanh()) for alpha in (gate.alpha_attn, gate.alpha_dense))

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **rest: Any) -> Tensor:
        scale = self.dial.scale
        if scale == 0:
            return self.original(attn, self.norm(hidden_states), *args, **rest)
        key, value = (for_rows(part, hidden_states) for part in self.face)
        attended, fed = self.alphas
        went = self.gate(hidden_states, (key, value), attn.heads, (scale * attended, scale * fed))
        # The block adds what it came with, so only the gate's change goes beside the attention.
        return self.original(attn, self.gated_norm(went), *args, **rest) + (went - hidden_states)


class Gates:
    """The gates of one sitting."""

    def __init__(self) -> None:
        self.dial = Dial(scale=0.5)
        self.layers: list[GatedAttention] = []

    @torch.no_grad()
    def give(self, tokens: Tensor) -> None:
        """`tokens`: (2, T, context), negative first."""
        for layer in self.layers:
            layer.face = layer.gate.remembered(tokens.to(layer.gate.linear.weight))

    def off_after(self, share: float) -> Callable[..., dict[str, Any]]:
        """A pipeline's step callback that closes the gates when this share of its steps is done."""

        def at_step_end(pipe: Any, step: int, _: Any, now: dict[str, Any]) -> dict[str, Any]:
            if step + 1 >= share * pipe.num_timesteps:
                self.dial.scale = 0.0
            return now

        return at_step_end


def _gated_norm(own: nn.LayerNorm, weights: Mapping[str, Tensor], name: str) -> nn.LayerNorm:
    """The layer norm a checkpoint brings beside its gate, which differs where it was trained along; else the base's."""
    brought = {key: weights[f"{name}.ln.{key}"] for key in ("weight", "bias") if f"{name}.ln.{key}" in weights}
    if not brought:
        return own
    if {key: value.shape for key, value in brought.items()} != {"weight": own.weight.shape, "bias": own.bias.shape}:
        raise PackError(f"The layer norm {name}.ln does not fit this base.", "Fetch the file again.")
    with torch.device("meta"):
        norm = nn.LayerNorm(list(own.normalized_shape), eps=own.eps)
    return adopt(norm, brought).to(own.weight.device, own.weight.dtype)


@contextmanager
def gates_in(unet: Any, weights: Mapping[str, Tensor]) -> Iterator[Gates]:
    """The gates of an adapter before every cross-attention of `unet` until the block ends."""
    sitting, layout, original = Gates(), layout_of(unet), dict(unet.attn_processors)
    processors, norms = dict(original), {}
    for path, width in layout.blocks:
        block, name = unet.get_submodule(path), f"{path}.attn2.processor"
        with torch.device("meta"):
            gate = Gate(width, layout.context)
        gate = adopt(gate, {key: weights[f"{name}.{key}"] for key in gate.state_dict()})
        place = next(block.parameters())
        norms[path] = block.norm2
        norm = _gated_norm(block.norm2, weights, name)
        gated = GatedAttention(original[name], block.norm2, norm, gate.to(place.device, place.dtype), sitting.dial)
        sitting.layers.append(gated)
        processors[name] = gated
    try:
        for path in norms:
            unet.get_submodule(path).norm2 = nn.Identity()
        unet.set_attn_processor(processors)
        yield sitting
    finally:
        unet.set_attn_processor(original)
        for path, norm in norms.items():
            unet.get_submodule(path).norm2 = norm
