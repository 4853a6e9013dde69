"""ControlNets: a pose, a depth or an edge picture that the portrait follows; several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.errors import EngineError
from facechain.types import Pixels

KINDS = ("openpose", "depth", "canny")


@dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """What one ControlNet is shown; `start` and `end` are shares of the steps it takes part in."""

    kind: str
    picture: Pixels
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0


def canny(pixels: Pixels, low: int = 100, high: int = 200) -> Pixels:
    """White edges on black; thresholds on the gradient as OpenCV has them."""
    edges = cv2.Canny(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), low, high)
    return np.repeat(edges[:, :, None], 3, axis=2).astype(np.uint8)


def open_net(path: Path, dtype: Any) -> Any:
    """A ControlNet from a diffusers folder or one safetensors file in the published layout."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    if path.is_dir():
        return ControlNetModel.from_pretrained(path, dtype=dtype, local_files_only=True)
    if path.suffix != ".safetensors":
        raise EngineError(f"{path.name} may run code when opened.", "Convert it to .safetensors first.")
    return ControlNetModel.from_single_file(str(path), dtype=dtype, local_files_only=True)


def arguments(controls: Sequence[Control], width: int, height: int, batch: int) -> dict[str, Any]:
    """For a ControlNet pipeline: pictures at the painting's size, one list entry a net."""
    import torch

    images = []
    for control in controls:
        fitted = cv2.resize(control.picture, (width, height), interpolation=cv2.INTER_AREA)
        tensor = torch.from_numpy(fitted.astype(np.float32) / 255).permute(2, 0, 1)[None]
        images.append(tensor.repeat(batch, 1, 1, 1))
    return {
        "image": images,
        "controlnet_conditioning_scale": [control.scale for control in controls],
        "control_guidance_start": [control.start for control in controls],
        "control_guidance_end": [control.end for control in controls],
    }
