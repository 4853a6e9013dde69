"""Tiny random models of Stable Diffusion 1.5's and SDXL's architecture, written as the real ones are published.

Blocks, layers and names are those of the real models, only narrower, so files, key names and code paths are real.
The tokenizer is a byte-pair one with merges for a few words: known words become one token, others several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = (
    "a an the of in on and person man woman child teen adult senior portrait photo studio light red blue green "
    "coat hat garden city night winter summer hair eyes smile face soft grey old young dress film blurry id img"
)


def write_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> int:
    """A CLIP tokenizer in its published layout; returns the vocabulary's size. End of text has the highest number."""
    letters = _byte_letters()
    merges: list[tuple[str, str]] = []
    made = set()
    for word in WORDS.split():
        left = word[0]
        for i, letter in enumerate(word[1:], start=2):
            right = letter + ("</w>" if i == len(word) else "")
            if (left, right) not in made:
                merges.append((left, right))
                made.add((left, right))
            left += right
    vocab = [*letters, *(letter + "</w>" for letter in letters), *dict.fromkeys(a + b for a, b in merges)]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: i for i, token in enumerate(vocab)}
    (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special), "utf-8")
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return len(ids)


def _byte_letters() -> list[str]:
    """The 256 characters byte-level tokenizers write bytes with, in the usual order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def sd15(folder: Path, *, seed: int = 0, safety: bool = False) -> Path:
    """An SD 1.5-shaped diffusers folder: 64 px pictures, text width 32."""
    import torch
    from diffusers import StableDiffusionPipeline

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vocab = write_tokenizer(folder / "tokenizer")
        pipe = StableDiffusionPipeline(
            vae=_vae(0.18215),
            text_encoder=_text(vocab, projection=False),
            tokenizer=_tokenizer(folder / "tokenizer"),
            unet=_unet_sd15(),
            scheduler=_scheduler("PNDMScheduler", skip_prk_steps=True),
            safety_checker=_safety_checker() if safety else None,
            feature_extractor=_feature_extractor() if safety else None,
            requires_safety_checker=safety,
        )
        pipe.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer")
    return folder


def sdxl(folder: Path, *, seed: int = 0) -> Path:
    """An SDXL-shaped diffusers folder: 64 px pictures, two text encoders, text width 80, pooled 48."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vocab = write_tokenizer(folder / "tokenizer")
        write_tokenizer(folder / "tokenizer_2", pad="!")
        pipe = StableDiffusionXLPipeline(
            vae=_vae(0.13025),
            text_encoder=_text(vocab, projection=False),
            text_encoder_2=_text(vocab, projection=True),
            tokenizer=_tokenizer(folder / "tokenizer"),
            tokenizer_2=_tokenizer(folder / "tokenizer_2"),
            unet=_unet_sdxl(),
            scheduler=_scheduler("EulerDiscreteScheduler"),
        )
        pipe.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer")
    write_tokenizer(folder / "tokenizer_2", pad="!")
    return folder


def controlnet(folder: Path, base: Path, *, seed: int = 0, embedding: tuple[int, int, int, int] = (4, 4, 4, 4)) -> Path:
    """A ControlNet for a tiny base; its output layers are not zero, so that it does something.

    `embedding`: widths of the layers the picture goes through; (16, 32, 96, 256) as published.
    """
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=embedding)
        for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(layer.weight, std=0.2)
        net.save_pretrained(folder)
    return folder


def single_file(file: Path, folder: Path) -> Path:
    """The diffusers folder's weights in one safetensors file, under the names Stability published them with."""
    import torch
    from diffusers import DiffusionPipeline
    from safetensors.torch import save_file

    pipe: Any = DiffusionPipeline.from_pretrained(folder)
    ups = pipe.unet.config.up_block_types
    weights = {
        f"model.diffusion_model.{_unet_name(k, lambda block: 'Attn' in ups[block])}": v
        for k, v in pipe.unet.state_dict().items()
    }
    levels = len(pipe.vae.config.block_out_channels)
    for key, value in pipe.vae.state_dict().items():
        name = _vae_name(key, levels)
        convolved = ".attn_1." in name and name.endswith("weight") and "norm" not in name
        weights[f"first_stage_model.{name}"] = value[:, :, None, None] if convolved else value
    xl = hasattr(pipe, "text_encoder_2")
    prefix = "conditioner.embedders.0.transformer.text_model." if xl else "cond_stage_model.transformer.text_model."
    for key, value in pipe.text_encoder.state_dict().items():
        weights[prefix + key.removeprefix("text_model.")] = value
    if xl:
        weights |= {f"conditioner.embedders.1.model.{k}": v for k, v in _open_clip(pipe.text_encoder_2).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous().clone().to(torch.float32) for k, v in weights.items()}, file)
    return file


# ── parts ────────────────────────────────────────────────────────────────────────────────────────


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def _text(vocab: int, projection: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocab,
        hidden_size=48 if projection else 32,  # readers of single files tell the two apart by their width
        projection_dim=48 if projection else 32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="gelu" if projection else "quick_gelu",
        bos_token_id=vocab - 2,
        eos_token_id=2,  # as published: then the highest number marks the end
        pad_token_id=1,
    )
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()
    # Freshly made encoders all but ignore their input; louder ones let a test see a word make a difference.
    for name, value in model.named_parameters():
        if "embedding" in name:
            value.data.mul_(30)
    return model


def _vae(scaling: float) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8, 8, 16, 16],
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=scaling,
    ).eval()


def _unet_sd15() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    ).eval()


def _unet_sdxl() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=80,
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=48 + 6 * 8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()


def _scheduler(name: str, **more: Any) -> Any:
    import diffusers

    return getattr(diffusers, name)(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        **more,
    )


def _safety_checker() -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    config = CLIPConfig(
        projection_dim=16,
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "projection_dim": 16,
        },
    )
    return StableDiffusionSafetyChecker(config).eval()


def _feature_extractor() -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


# ── published names of a single file's weights ───────────────────────────────────────────────────


def _unet_name(key: str, attends: Callable[[int], bool], layers: int = 2) -> str:
    """down_blocks.1.attentions.0… → input_blocks.4.1… and so on."""
    plain = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    stem, end = key.rsplit(".", 1)
    if stem in plain:
        return f"{plain[stem]}.{end}"
    if at := re.fullmatch(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", key):
        block, kind, layer, rest = at.groups()
        number = 1 + int(block) * (layers + 1) + int(layer)
        return f"input_blocks.{number}.{int(kind == 'attentions')}.{_resnet_name(rest, kind)}"
    if at := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", key):
        return f"input_blocks.{(int(at[1]) + 1) * (layers + 1)}.0.op.{at[2]}"
    if at := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", key):
        kind, number, rest = at.groups()
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}.{_resnet_name(rest, kind)}"
    if at := re.fullmatch(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", key):
        block, kind, layer, rest = at.groups()
        number = int(block) * (layers + 1) + int(layer)
        return f"output_blocks.{number}.{int(kind == 'attentions')}.{_resnet_name(rest, kind)}"
    if at := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.*)", key):
        # SD 1.5's first up block has no attention, so there the upsampler stands second.
        place = 2 if attends(int(at[1])) else 1
        return f"output_blocks.{int(at[1]) * (layers + 1) + layers}.{place}.conv.{at[2]}"
    raise KeyError(key)


def _resnet_name(rest: str, kind: str) -> str:
    if kind == "attentions":
        return rest
    names = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    stem, end = rest.rsplit(".", 1)
    return f"{names[stem]}.{end}"


def _vae_name(key: str, levels: int) -> str:
    key = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", key)
    key = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", key)
    key = re.sub(
        r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.block.{m[2]}", key
    )
    key = re.sub(
        r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.upsample", key
    )
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = key.replace("mid_block.attentions.0", "mid.attn_1")
    if ".mid.attn_1." in key:
        for new, old in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            key = key.replace(f".{new}.", f".{old}.")
    return key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def _open_clip(encoder: Any) -> dict[str, Any]:
    """SDXL's second text encoder in OpenCLIP's names: fused query, key and value, transposed projection."""
    import torch

    state = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    parts["self_attn.out_proj"] = "attn.out_proj"
    made = {old: state[new] for new, old in names.items()}
    made["text_projection"] = state["text_projection.weight"].T
    for layer in range(encoder.config.num_hidden_layers):
        at, to = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for end in ("weight", "bias"):
            qkv = [state[f"{at}self_attn.{p}_proj.{end}"] for p in "qkv"]
            made[f"{to}attn.in_proj_{end}"] = torch.cat(qkv)
            for new, old in parts.items():
                made[f"{to}{old}.{end}"] = state[f"{at}{new}.{end}"]
    return made
