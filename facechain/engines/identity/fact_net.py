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


class JointAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, count: int) -> Tensor:
        query, key, value = (heads(to(x), count) for to in (self.to_q, self.to_k, self.to_v))
        return self.to_out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Geglu(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * functional.gelu(gate)


class Gate(nn.Module):
    """Picture tokens (B, N, width) and face tokens (B, T, context) -> what is added to the picture tokens."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context, width)
        self.attn = JointAttention(width)
        # The published names skip a number where a dropout stood.
        self.ff = nn.ModuleDict({"net": nn.ModuleDict({"0": Geglu(width), "2": nn.Linear(4 * width, width)})})
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.alpha_attn, self.alpha_dense = (nn.Parameter(torch.zeros(())) for _ in range(2))

    def forward(self, picture: Tensor, face: Tensor, count: int, scale: float) -> Tensor:
        joint = self.attn(self.norm1(torch.cat([picture, self.linear(face)], dim=1)), count)[:, : picture.shape[1]]
        went = picture + scale * self.alpha_attn.tanh() * joint
        net = self.ff["net"]
        went = went + scale * self.alpha_dense.tanh() * net["2"](net["0"](self.norm2(went)))  # type: ignore[index]
        return went - picture


class GatedAttention:
    """An attention processor: the gate, then the block's own layer norm and cross-attention.

    The block's `norm2` is bypassed while this is in, so that the gate sees the picture tokens themselves.
    """

    def __init__(self, original: Any, norm: nn.Module, gate: Gate, sitting: Gates) -> None:
        self.original, self.norm, self.gate, self.sitting = original, norm, gate, sitting

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **rest: Any) -> Tensor:
        scale = self.sitting.dial.scale
        if scale == 0:
            return self.original(attn, self.norm(hidden_states), *args, **rest)
        face = for_rows(self.sitting.tokens, hidden_states)
        change = self.gate(hidden_states, face, attn.heads, scale)
        return self.original(attn, self.norm(hidden_states + change), *args, **rest) + change


class Gates:
    """The gates of one sitting."""

    tokens: Tensor

    def __init__(self) -> None:
        self.dial = Dial(scale=0.5)

    def give(self, tokens: Tensor) -> None:
        """`tokens`: (2, T, context), negative first."""
        self.tokens = tokens

    def off_after(self, share: float) -> Callable[..., dict[str, Any]]:
        """A pipeline's step callback that closes the gates when this share of its steps is done."""

        def at_step_end(pipe: Any, step: int, _: Any, now: dict[str, Any]) -> dict[str, Any]:
            if step + 1 >= share * pipe.num_timesteps:
                self.dial.scale = 0.0
            return now

        return at_step_end


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
        processors[name] = GatedAttention(original[name], block.norm2, gate.to(place.device, place.dtype), sitting)
    try:
        for path in norms:
            unet.get_submodule(path).norm2 = nn.Identity()
        unet.set_attn_processor(processors)
        yield sitting
    finally:
        unet.set_attn_processor(original)
        for path, norm in norms.items():
            unet.get_submodule(path).norm2 = norm
