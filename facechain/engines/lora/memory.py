"""What a training needs, worked out before it starts, and what it took."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from facechain.engines.lora.settings import TrainSettings

_OPTIMIZER_BYTES = {"adamw": 8, "adamw8bit": 2, "prodigy": 16}  # per trained weight


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Bytes on the training device."""

    base: int  # frozen weights
    trained: int  # low-rank weights, their gradients, moments and moving average
    activations: int  # kept from the forward to the backward pass
    spare: int  # libraries and fragments

    @property
    def total(self) -> int:
        return self.base + self.trained + self.activations + self.spare

    def lines(self) -> list[str]:
        rows = (
            ("base", self.base),
            ("trained", self.trained),
            ("activations", self.activations),
            ("spare", self.spare),
        )
        return [f"{name:12} {bytes_ / 2**30:7.2f} GiB" for name, bytes_ in (*rows, ("in all", self.total))]


def plan(pipe: Any, adapters: Any, settings: TrainSettings, latents: tuple[int, int], half: bool) -> Plan:
    """`latents`: height and width; `half`: whether the passes run in 16 bit."""
    trained = sum(value.numel() for value in adapters.named().values())
    each = 4 + 4 + _OPTIMIZER_BYTES[settings.optimizer] + (4 if settings.ema_decay else 0)
    models = {"unet": pipe.unet, **adapters.models}
    frozen = sum(v.numel() * v.element_size() for m in models.values() for v in m.parameters() if not v.requires_grad)
    kept = activations(pipe.unet, settings.batch, latents, settings.gradient_checkpointing)
    device = pipe.unet.device
    spare = 400 * 2**20 if device.type == "cuda" else max(0, peak(device) - frozen)
    return Plan(base=frozen, trained=trained * each, activations=kept * (2 if half else 4), spare=spare)


def activations(unet: Any, batch: int, latents: tuple[int, int], checkpointing: bool) -> int:
    """Numbers kept for the backward pass: the outputs of the layers, found by a pass over shapes alone.

    With checkpointing only the blocks' outputs are kept, and one block's inside at a time.
    """
    config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
    layers, blocks, largest = _outputs(json.dumps(config, sort_keys=True), batch, latents)
    return blocks + largest if checkpointing else layers


@functools.lru_cache(maxsize=8)
def _outputs(config_json: str, batch: int, latents: tuple[int, int]) -> tuple[int, int, int]:
    """Numbers in the outputs of all layers, of all blocks, and of the layers of the largest block."""
    import torch
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        shape: Any = UNet2DConditionModel.from_config(json.loads(config_json))
    kept = {"layers": 0, "blocks": 0, "inside": 0, "largest": 0}

    def leaf(module: Any, _: Any, output: Any) -> None:
        size = output.numel() if torch.is_tensor(output) else 0
        kept["layers"] += size
        kept["inside"] += size

    def enter(module: Any, _: Any) -> None:
        kept["inside"] = 0

    def leave(module: Any, _: Any, output: Any) -> None:
        kept["blocks"] += output.numel() if torch.is_tensor(output) else 0
        kept["largest"] = max(kept["largest"], kept["inside"])

    for module in shape.modules():
        if isinstance(module, ResnetBlock2D | BasicTransformerBlock):
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        elif not list(module.children()):
            module.register_forward_hook(leaf)
    config = shape.config
    with torch.device("meta"), torch.no_grad():
        more = {}
        if config.addition_embed_type == "text_time":
            width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            more = {"text_embeds": torch.zeros(batch, width), "time_ids": torch.zeros(batch, 6)}
        noisy = torch.zeros(batch, config.in_channels, *latents)
        text = torch.zeros(batch, 77, config.cross_attention_dim)
        shape(noisy, torch.zeros(batch), encoder_hidden_states=text, added_cond_kwargs=more)
    return kept["layers"], kept["blocks"], kept["largest"]


def peak(device: Any) -> int:
    """Bytes at most in use so far: on a GPU by torch's tensors, else by the whole process."""
    import resource
    import sys

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
