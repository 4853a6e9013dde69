"""ControlNets: a pose, a depth or an edge picture that the portrait follows; several at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.conventions import ldm_controlnet, same, under
from facechain.engines.diffusion.networks import Weights, build, fill, open_folder
from facechain.errors import EngineError

KINDS = ("openpose", "depth", "canny")


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
