"""Which of the person's photos suits this face of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facechain.types import Mask, Mesh, Pixels

EXPRESSIONS = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight", "mouthPucker")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One photo of the person, ready to be fused."""

    photo_id: str
    pixels: Pixels
    mesh: Mesh
    bare: Mask  # face skin not covered by hair, glasses or hands
    quality: float  # 0…1


def cost(source: Source, target: Mesh) -> float:
    """How badly `source` suits; about 1 for 25° of head turn, or a fully different expression."""
    a, b = source.mesh.pose, target.pose
    turn = np.hypot(a.yaw_deg - b.yaw_deg, 0.8 * (a.pitch_deg - b.pitch_deg)) / 25
    mien = sum(abs(source.mesh.expressions.get(e, 0) - target.expressions.get(e, 0)) for e in EXPRESSIONS)
    return float(turn + 0.25 * mien + 0.5 * (1 - source.quality))


def good(sources: Sequence[Source], target: Mesh, slack: float = 0.5) -> list[Source]:
    """The photos nearly as good as the best, by `cost`, best first: an eye tells portraits of two photos apart."""
    ranked = sorted(sources, key=lambda source: cost(source, target))
    return [source for source in ranked if cost(source, target) <= cost(ranked[0], target) + slack]
