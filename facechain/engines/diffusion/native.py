"""The size a base paints best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from facechain.types import Shot


def native(shot: Shot, pipe: Any) -> Shot:
    """Far below the size its base was trained at a picture breaks, so such a shot is enlarged to it, in its shape."""
    if not pipe.unet.config.sample_size:  # its configuration does not say
        return shot
    side = pipe.unet.config.sample_size * 8
    area = shot.width_px * shot.height_px
    if area >= (0.75 * side) ** 2:
        return shot
    step, scale = min(64, side // 8), side / area**0.5
    width, height = (round(length * scale / step) * step for length in (shot.width_px, shot.height_px))
    return replace(shot, width_px=width, height_px=height)
