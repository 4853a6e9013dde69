"""The base model's half of an adapter file: which cross-attention blocks it has, in which order, and how wide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Transformer blocks of a UNet in the order down, up, mid, which numbers the attention weights of adapter files.

    Block k owns processor 2k (self-attention) and 2k + 1 (cross-attention).
    """

    family: str
    context: int  # width of the text tokens
    blocks: tuple[tuple[str, int], ...]  # path of the block, channels


def _blocks(plan: Mapping[str, tuple[int, int, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(
        (f"{part}.attentions.{a}.transformer_blocks.{b}", width)
        for part, (attentions, depth, width) in plan.items()
        for a in range(attentions)
        for b in range(depth)
    )


SD15 = Layout(
    family="sd15",
    context=768,
    blocks=_blocks(
        {
            "down_blocks.0": (2, 1, 320),
            "down_blocks.1": (2, 1, 640),
            "down_blocks.2": (2, 1, 1280),
            "up_blocks.1": (3, 1, 1280),
            "up_blocks.2": (3, 1, 640),
            "up_blocks.3": (3, 1, 320),
            "mid_block": (1, 1, 1280),
        }
    ),
)
SDXL = Layout(
    family="sdxl",
    context=2048,
    blocks=_blocks(
        {
            "down_blocks.1": (2, 2, 640),
            "down_blocks.2": (2, 10, 1280),
            "up_blocks.0": (3, 10, 1280),
            "up_blocks.1": (3, 2, 640),
            "mid_block": (1, 10, 1280),
        }
    ),
)
