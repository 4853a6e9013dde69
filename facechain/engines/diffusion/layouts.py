"""What a base published as one file is made of: such a file holds weights only, no configuration and no vocabulary."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from facechain.errors import EngineError

_NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}

_CLIP_L = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "projection_dim": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}

_CLIP_G = {
    **_CLIP_L,
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_size": 1280,
    "projection_dim": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
}


def _vae(scaling: float, sample: int) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": scaling,
        "sample_size": sample,
    }


_TOKENIZER = ["transformers", "CLIPTokenizer"]
_TEXT = ["transformers", "CLIPTextModel"]
_UNET = {"_class_name": "UNet2DConditionModel", "layers_per_block": 2}

LAYOUTS: dict[str, dict[str, dict[str, Any]]] = {
    "sd15": {
        "model_index.json": {
            "_class_name": "StableDiffusionPipeline",
            "requires_safety_checker": False,
            "scheduler": ["diffusers", "PNDMScheduler"],
            "text_encoder": _TEXT,
            "tokenizer": _TOKENIZER,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "PNDMScheduler",
            **_NOISE,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
        },
        "text_encoder/config.json": _CLIP_L,
        "unet/config.json": {
            **_UNET,
            "sample_size": 64,
            "attention_head_dim": 8,
            "block_out_channels": [320, 640, 1280, 1280],
            "cross_attention_dim": 768,
            "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        },
        "vae/config.json": _vae(0.18215, 512),
    },
    "sdxl": {
        "model_index.json": {
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": True,
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder": _TEXT,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": _TOKENIZER,
            "tokenizer_2": _TOKENIZER,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "EulerDiscreteScheduler",
            **_NOISE,
            "timestep_spacing": "leading",
        },
        "text_encoder/config.json": _CLIP_L,
        "text_encoder_2/config.json": _CLIP_G,
        "unet/config.json": {
            **_UNET,
            "sample_size": 128,
            "attention_head_dim": [5, 10, 20],
            "block_out_channels": [320, 640, 1280],
            "cross_attention_dim": 2048,
            "transformer_layers_per_block": [1, 2, 10],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        },
        "vae/config.json": _vae(0.13025, 1024),
    },
}


def write_layout(
    folder: Path,
    family: str,
    vocabulary: Path | None,
    channels: int = 4,
    noise: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """A diffusers folder without weights. `vocabulary`: OpenCLIP's list of merges (bpe_simple_vocab_16e6.txt.gz).

    `channels` go into the UNet; `noise` is what its schedule has of its own.
    """
    own = {"unet/config.json": {"in_channels": channels}, "scheduler/scheduler_config.json": noise}
    for name, values in LAYOUTS[family].items():
        values = {**values, **own.get(name, {})}
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(values), "utf-8")
    if vocabulary is not None:
        tokens, merges = _read_merges(vocabulary)
        _write_tokenizer(folder / "tokenizer", tokens, merges, pad="<|endoftext|>")
        if family == "sdxl":
            _write_tokenizer(folder / "tokenizer_2", tokens, merges, pad="!")
    return folder


def _read_merges(path: Path) -> tuple[dict[str, int], list[str]]:
    """CLIP's vocabulary is 256 bytes, the same ending a word, 48,894 merges and two marks, in this order."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{path.name} is not a list of merges: {error}.", "Fetch the pack clip_vocabulary.") from None
    merges = lines[1 : 49152 - 256 - 2 + 1]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def _write_tokenizer(folder: Path, tokens: dict[str, int], merges: list[str], pad: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(tokens, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
