"""InstantID's IdentityNet: an ordinary SDXL ControlNet that reads face tokens where others read the prompt."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from facechain.engines.identity.attention import for_rows, shrink
from facechain.errors import PackError, PackMissing


class IdentityNet(ControlNetModel):
    """`view` is for one sitting; the weights are shared, the face is not."""

    face: Tensor | None = None  # (2, tokens, context), negative first
    mask: Tensor | None = None  # (1, H, W): where it may act

    def view(self) -> IdentityNet:
        return copy.copy(self)

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, *args: Any, **rest: Any) -> Any:
        if self.face is None:
            raise RuntimeError("IdentityNet was not given a face.")
        out = super().forward(sample, timestep, for_rows(self.face, encoder_hidden_states), *args, **rest)
        if self.mask is None:
            return out
        down, middle = out if isinstance(out, tuple) else (out["down_block_res_samples"], out["mid_block_res_sample"])
        return tuple(self._inside(x) for x in down), self._inside(middle)

    def _inside(self, residual: Tensor) -> Tensor:
        height, width = residual.shape[-2:]
        return residual * shrink(self.mask, height * width).to(residual).reshape(1, 1, height, width)  # type: ignore


def open_identitynet(folder: Path, device: Any, dtype: torch.dtype) -> IdentityNet:
    """The `ControlNetModel` folder of InstantID. Raises PackMissing, or PackError for a file that does not fit."""
    config, weights = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise PackMissing(f"IdentityNet lacks {file.name}.", "Fetch the InstantID pack.")
    # The meta device is per thread, unlike accelerate's empty weights, so two sittings may open side by side.
    with torch.device("meta"):
        net = IdentityNet.from_config(json.loads(config.read_text("utf-8")))
    try:
        net.load_state_dict(load_file(weights), strict=True, assign=True)  # type: ignore[union-attr]
    except (SafetensorError, RuntimeError) as error:
        raise PackError(f"IdentityNet's weights do not fit: {str(error)[:200]}", "Fetch the pack again.") from None
    return nn.Module.to(net, device, dtype).eval().requires_grad_(False)  # type: ignore[return-value, arg-type]
