"""A network in a diffusers folder, read strictly: diffusers itself would fill what is missing with random numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from facechain.errors import EngineError, PackError, PackMissing


def open_net(cls: Any, folder: Path, title: str, context: int, device: Any, dtype: torch.dtype) -> Any:
    """The `cls` in `folder`, frozen. `context` is the width of the base's text tokens, `title` names it in errors.

    Raises PackMissing, PackError for files that do not fit each other, EngineError for a base of another width.
    """
    config, weights = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise PackMissing(f"{title} lacks {file.name}.", "Fetch its pack.")
    try:
        # The meta device is per thread, unlike accelerate's empty weights, so two sittings may open side by side.
        with torch.device("meta"):
            net = cls.from_config(json.loads(config.read_text("utf-8")))
        if net.config.cross_attention_dim != context:
            raise EngineError(
                f"{title} is for bases with tokens {net.config.cross_attention_dim} wide, but this base's are "
                f"{context} wide.",
                "Choose a base of the family it was made for.",
            )
        net.load_state_dict(load_file(weights), strict=True, assign=True)
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise PackError(f"{title}'s weights do not fit: {str(error)[:200]}", "Fetch its pack again.") from None
    return nn.Module.to(net, device, dtype).eval().requires_grad_(False)
