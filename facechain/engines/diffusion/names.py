"""What other programs call the layers of a pipeline.

kohya's scripts and A1111 write one underscored name a layer. For SD 1.5's UNet it follows diffusers, for SDXL's the
published single file (input_blocks, middle_block, output_blocks), and readers accept both for either. ComfyUI also
writes the single file's own dotted names, and SimpleTuner those of diffusers with `lycoris_` in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

ENCODERS = {"text_encoder": ("lora_te_", "lora_te1_"), "text_encoder_2": ("lora_te2_",)}
_COMFY = {"text_encoder": "text_encoders.clip_l.transformer.", "text_encoder_2": "text_encoders.clip_g.transformer."}


def layers(pipe: Any) -> Iterator[tuple[str, str, Any]]:
    """(part, path, module) of every linear, convolution and norm layer, whose weights a file may change."""
    from torch import nn

    for part in ("unet", *ENCODERS):
        if (model := getattr(pipe, part, None)) is not None:
            for path, module in model.named_modules():
                if isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm):
                    yield part, path, module


def clip_path(path: str) -> str:
    """A text encoder's layer as published: CLIPTextModel lost the prefix in transformers 5.6, files kept it."""
    return path if path.startswith(("text_model.", "text_projection")) else f"text_model.{path}"


def spellings(pipe: Any) -> dict[str, tuple[str, str]]:
    """Every known spelling of every layer, to (part, path)."""
    known: dict[str, tuple[str, str]] = {}
    for part, path, _ in layers(pipe):
        for name in (*dotted(part, path), *underscored(pipe, part, path), *_others(pipe, part, path)):
            known[name] = (part, path)
    return known


def dotted(part: str, path: str) -> tuple[str, ...]:
    """PEFT and diffusers: unet.mid_block… ; the published spelling first."""
    if part == "unet":
        return (f"unet.{path}",)
    return tuple(dict.fromkeys((f"{part}.{clip_path(path)}", f"{part}.{path}")))


def underscored(pipe: Any, part: str, path: str) -> tuple[str, ...]:
    """kohya, A1111 and LyCORIS; the one to write for this pipeline first."""
    if part != "unet":
        single = getattr(pipe, "text_encoder_2", None) is None
        prefixes = ENCODERS[part] if single or part == "text_encoder_2" else ENCODERS[part][::-1]
        return tuple(prefix + clip_path(path).replace(".", "_") for prefix in prefixes)
    names = ["lora_unet_" + path.replace(".", "_")]
    if published := ldm_path(path, pipe.unet.config):
        names.append("lora_unet_" + published.replace(".", "_"))
    sdxl = getattr(pipe, "text_encoder_2", None) is not None
    return tuple(names[::-1] if sdxl else names)


def _others(pipe: Any, part: str, path: str) -> tuple[str, ...]:
    """Spellings that are read and not written."""
    if part != "unet":
        return (_COMFY[part] + clip_path(path),)
    names = ["lycoris_" + path.replace(".", "_")]
    if published := ldm_path(path, pipe.unet.config):
        names.append(f"diffusion_model.{published}")
    return tuple(names)


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def ldm_path(path: str, config: Any) -> str:
    """A UNet layer's path in the published single file; empty when it has none."""
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    if found := _MIDDLE.fullmatch(path):
        kind, number, rest = found.groups()
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{place}.{rest if kind == 'attentions' else _RESNET.get(rest, rest)}"
    if not (found := _BLOCK.fullmatch(path)):
        return ""
    side, block, kind, layer, rest = found.groups()
    each = config.layers_per_block + 1
    if kind == "downsamplers":
        return f"input_blocks.{(int(block) + 1) * each}.0.op"
    if kind == "upsamplers":
        # The upsampler stands behind the attention, where a block has one.
        place = 2 if "Attn" in config.up_block_types[int(block)] else 1
        return f"output_blocks.{int(block) * each + each - 1}.{place}.conv"
    number = int(block) * each + int(layer) + (side == "down_blocks")
    inner = f"1.{rest}" if kind == "attentions" else f"0.{_RESNET.get(rest, rest)}"
    return f"{'input' if side == 'down_blocks' else 'output'}_blocks.{number}.{inner}"
