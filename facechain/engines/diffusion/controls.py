"""ControlNets: a pose, a depth or an edge picture that the portrait follows; several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.engines.diffusion.base import OPENING
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


def open_net(path: Path, dtype: Any) -> Any:
    """A ControlNet from a diffusers folder or one safetensors file in the published layout."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    if path.is_file() and path.suffix != ".safetensors":
        raise EngineError(f"{path.name} may run code when opened.", "Convert it to .safetensors first.")
    try:
        with OPENING:
            if path.is_dir():
                return ControlNetModel.from_pretrained(path, dtype=dtype, local_files_only=True)
            return ControlNetModel.from_single_file(str(path), dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        what = f"{path.name} is no ControlNet: {str(error).splitlines()[0]}"
        raise EngineError(what, "Give a diffusers folder or a .safetensors file.") from None


def arguments(controls: Sequence[Control], width: int, height: int, batch: int) -> dict[str, Any]:
    """For a ControlNet pipeline: the pictures' middles at the painting's size, one list entry a net."""
    import torch

    images = []
    for control in controls:
        fitted = _covering(control.picture, width, height)
        tensor = torch.from_numpy(fitted.astype(np.float32) / 255).permute(2, 0, 1)[None]
        images.append(tensor.repeat(batch, 1, 1, 1))
    return {
        "image": images,
        "controlnet_conditioning_scale": [control.scale for control in controls],
        "control_guidance_start": [control.start for control in controls],
        "control_guidance_end": [control.end for control in controls],
    }


def _covering(picture: Pixels, width: int, height: int) -> Pixels:
    """Enlarged or shrunk until it covers the size, and its edges cut off."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    large = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.asarray(large[top : top + height, left : left + width], np.uint8)
