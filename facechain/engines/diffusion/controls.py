"""ControlNets: a pose, a depth or an edge picture that the portrait follows; several at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.engines.diffusion.conventions import ldm_controlnet, same, under
from facechain.engines.diffusion.networks import Weights, build, fill, open_folder
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


def open_net(path: Path, unet: Any) -> Any:
    """A ControlNet for this UNet, in its precision, from a diffusers folder or one weight file.

    Raises PackMissing, PackError for damaged files, EngineError when it was made for another family of bases.
    """
    title = f"the ControlNet {path.name}"
    net = (
        open_folder(lambda config: _make(config, unet, path), path, title) if path.is_dir() else _of(path, unet, title)
    )
    return net.to(unet.dtype)


def _make(config: Mapping[str, Any], unet: Any, path: Path) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    if (found := config.get("_class_name", wanted := "ControlNetModel")) != wanted:
        raise EngineError(f"{path.name} is no ControlNet but a {found}.", f"Choose one of the kind {wanted}.")
    net: Any = ControlNetModel.from_config(dict(config))
    width, needed = net.config.cross_attention_dim, unet.config.cross_attention_dim
    if width != needed or net.config.addition_embed_type != unet.config.addition_embed_type:
        raise EngineError(
            f"{path.name} is a ControlNet for another family of bases: it reads words {width} wide, not {needed}.",
            "Give one made for the base's family.",
        )
    return net


def _of(file: Path, unet: Any, title: str) -> Any:
    """A file holds no configuration: a ControlNet is shaped as the UNet it was copied from."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    shared = set(inspect.signature(ControlNetModel.__init__).parameters) - {"self"}
    config = {key: value for key, value in unet.config.items() if key in shared}
    net, weights = build(lambda: _make(config, unet, file), title), Weights.read(file, [file])
    ldm = ldm_controlnet(net.config, unet.config)
    if not fill(net, weights, (same, ldm, under("control_model.", ldm)), title):
        raise EngineError(f"{file.name} is no ControlNet.", "Give a diffusers folder or a file with one.")
    weights.refuse_surplus(title, {})
    return net


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
