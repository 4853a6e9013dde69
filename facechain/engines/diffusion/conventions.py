"""What the tensors of a network are called in weight files: by diffusers, by older releases, and in single files.

A convention maps a tensor of the network, by its name there, to where a file holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from facechain.engines.diffusion.names import clip_path, ldm_path


@dataclass(frozen=True)
class Source:
    key: str  # in the file
    third: int | None = None  # of a tensor that stacks query, key and value
    transposed: bool = False


Convention: TypeAlias = Callable[[str], Source]


def under(prefix: str, convention: Convention) -> Convention:
    """The same names behind a prefix."""

    def source(key: str) -> Source:
        found = convention(key)
        return Source(prefix + found.key, found.third, found.transposed)

    return source


def same(key: str) -> Source:
    return Source(key)


# ── UNet and ControlNet ──────────────────────────────────────────────────────────────────────────


def ldm_unet(config: Any) -> Convention:
    """As single files name a UNet. `config`: the network's."""

    def source(key: str) -> Source:
        layer, _, end = key.rpartition(".")
        return Source(f"{ldm_path(layer, config) or layer}.{end}")

    return source


def ldm_controlnet(config: Any, unet: Any) -> Convention:
    """As lllyasviel's files name a ControlNet: its copy of the UNet, the picture's way in, and the outputs.

    `config` is the network's, `unet` that of the base.
    """
    last = 2 * len(config.conditioning_embedding_out_channels) - 1  # of the convolutions the picture goes through
    copied = ldm_unet(unet)
    outside = {
        "controlnet_mid_block": "middle_block_out.0",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
        "controlnet_cond_embedding.conv_out": f"input_hint_block.{2 * last}",
    }

    def source(key: str) -> Source:
        layer, _, end = key.rpartition(".")
        if found := re.fullmatch(r"controlnet_down_blocks\.(\d+)", layer):
            return Source(f"zero_convs.{found[1]}.0.{end}")
        if found := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)", layer):
            return Source(f"input_hint_block.{2 * int(found[1]) + 2}.{end}")
        return Source(f"{outside[layer]}.{end}") if layer in outside else copied(key)

    return source


# ── VAE ──────────────────────────────────────────────────────────────────────────────────────────

_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_LDM_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_ATTENTION = re.compile(r"(.+\.mid_block\.attentions\.0)\.(group_norm|to_q|to_k|to_v|to_out\.0)\.(weight|bias)")


def old_vae(key: str) -> Source:
    """As diffusers named a VAE's attention before 0.18, and SD 1.5 was published."""
    if found := _ATTENTION.fullmatch(key):
        return Source(f"{found[1]}.{_OLD_ATTENTION.get(found[2], found[2])}.{found[3]}")
    return Source(key)


def ldm_vae(levels: int) -> Convention:
    """As single files name a VAE of so many levels."""

    def source(key: str) -> Source:
        if found := _ATTENTION.fullmatch(key):
            side = found[1].removesuffix("mid_block.attentions.0")
            return Source(f"{side}mid.attn_1.{_LDM_ATTENTION[found[2]]}.{found[3]}")
        key = re.sub(r"\.down_blocks\.(\d+)\.resnets\.(\d+)", r".down.\1.block.\2", key)
        key = re.sub(r"\.down_blocks\.(\d+)\.downsamplers\.0", r".down.\1.downsample", key)
        upwards = r"\.up_blocks\.(\d+)\."
        if found := re.search(upwards, key):  # counted from the picture
            key = re.sub(upwards, f".up.{levels - 1 - int(found[1])}.", key)
            key = key.replace(".resnets.", ".block.").replace(".upsamplers.0.", ".upsample.")
        key = re.sub(r"\.mid_block\.resnets\.(\d+)", lambda found: f".mid.block_{int(found[1]) + 1}", key)
        return Source(key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out"))

    return source


# ── text encoders ────────────────────────────────────────────────────────────────────────────────


def clip(key: str) -> Source:
    return Source(clip_path(key))


def bare_clip(key: str) -> Source:
    """Without the prefix, as before 2022 and again since transformers 5.6."""
    return Source(clip_path(key).removeprefix("text_model."))


_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def open_clip(key: str) -> Source:
    """As OpenCLIP names a text encoder; SDXL's second is one."""
    key = bare_clip(key).key
    if key == "text_projection.weight":
        return Source("text_projection", transposed=True)
    if not (found := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)):
        return Source(_OPEN_CLIP.get(key, key))
    number, layer, end = found.groups()
    block = f"transformer.resblocks.{number}"
    if stacked := re.fullmatch(r"self_attn\.([qkv])_proj", layer):
        return Source(f"{block}.attn.in_proj_{end}", third="qkv".index(stacked[1]))
    return Source(f"{block}.{_OPEN_CLIP_LAYER.get(layer, layer)}.{end}")


def clip_vision(key: str) -> Source:
    """CLIP's image side as published; transformers 5.6 dropped the prefix."""
    bare = bare_clip_vision(key).key
    return Source(bare if bare.startswith("visual_projection.") else f"vision_model.{bare}")


def bare_clip_vision(key: str) -> Source:
    return Source(key.removeprefix("vision_model."))


# ── safety checker ───────────────────────────────────────────────────────────────────────────────


def checker(key: str) -> Source:
    """As published; transformers 5.6 dropped one of the two prefixes."""
    return Source(re.sub(r"^vision_model\.(vision_model\.)?", "vision_model.vision_model.", key))


def bare_checker(key: str) -> Source:
    return Source(re.sub(r"^vision_model\.(vision_model\.)?", "vision_model.", key))
