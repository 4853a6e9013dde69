"""InstantID's IdentityNet: an ordinary SDXL ControlNet that reads face tokens where others read the prompt."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from torch import Tensor

from facechain.engines.identity.attention import for_rows, shrink
from facechain.engines.identity.folder import open_net


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


def open_identitynet(folder: Path, context: int, device: Any, dtype: torch.dtype) -> IdentityNet:
    """The `ControlNetModel` folder of InstantID, for a base with tokens `context` wide; errors are `open_net`'s."""
    return open_net(IdentityNet, folder, "IdentityNet", context, device, dtype)
