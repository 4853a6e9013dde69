"""A network in a diffusers folder, for a base of a given width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from facechain.engines.diffusion.networks import open_folder
from facechain.errors import EngineError


def open_net(cls: Any, folder: Path, title: str, context: int, device: Any, dtype: torch.dtype) -> Any:
    """The `cls` in `folder`, frozen. `context` is the width of the base's text tokens, `title` names it in errors.

    Raises PackMissing, PackError for files that do not fit each other, EngineError for a base of another width.
    """

    def make(config: dict[str, Any]) -> Any:
        net = cls.from_config(config)
        if net.config.cross_attention_dim != context:
            raise EngineError(
                f"{title} is for bases with tokens {net.config.cross_attention_dim} wide, but this base's are "
                f"{context} wide.",
                "Choose a base of the family it was made for.",
            )
        return net

    return nn.Module.to(open_folder(make, folder, title), device, dtype).requires_grad_(False)
