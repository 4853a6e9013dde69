"""The starter family: Stable Diffusion 1.5's classes, names and file layout, a hundredth of its size.

A folder of the family holds what a published diffusers folder holds, and `ip-adapter-faceid.safetensors` in the
published layout of that adapter, fed by a recogniser of 128 numbers where the published one takes 512.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ADAPTER_FILE = "ip-adapter-faceid.safetensors"
NET_FOLDER = "identitynet"
FACE_TOKENS = 4
_LORA_RANK = 1
_NET_CHANNELS = (16, 32, 64, 96)  # of what reads the picture of points, halving it three times
# Words beside those of the captions, so that ordinary prompts are not spelled out letter by letter.
WORDS = (
    "a an the of in on at by and with no not very man woman person people face head eyes nose mouth hair studio light "
    "soft dark bright warm cold colour red orange blue pink brown suit dress coat hat garden city night summer winter "
    "old young happy sad film picture drawing painting blurry deformed ugly bad good best quality"
)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Sizes of a family and how it is trained."""

    size_px: int
    vae: tuple[int, int, int, int]  # channels from the picture inwards; each but the last halves the picture
    unet: tuple[int, int, int, int]
    layers: int  # of each UNet block; SD 1.5 has 2
    heads: int
    text_width: int
    text_layers: int
    recogniser_width: int
    vae_steps: int
    vae_batch: int
    vae_crop_px: int  # the squares it learns from until it is nearly done
    unet_steps: int
    unet_batch: int
    practice_steps: int  # of the UNet, as many more
    net_steps: int
    net_batch: int


PRESETS: dict[str, Preset] = {
    "cpu": Preset(
        size_px=128, vae=(16, 32, 64, 64), unet=(64, 128, 192, 192), layers=1, heads=2, text_width=128, text_layers=2,
        recogniser_width=128, vae_steps=2_600, vae_batch=8, vae_crop_px=64,
        unet_steps=7_200, unet_batch=24, practice_steps=1_850,
        net_steps=2_250, net_batch=24,
    ),
    "gpu": Preset(
        size_px=256, vae=(32, 64, 96, 96), unet=(64, 128, 192, 224), layers=2, heads=4, text_width=160, text_layers=4,
        recogniser_width=128, vae_steps=15_000, vae_batch=32, vae_crop_px=256,
        unet_steps=35_000, unet_batch=256, practice_steps=5_000,
        net_steps=8_000, net_batch=256,
    ),
    "test": Preset(
        size_px=64, vae=(8, 8, 8, 8), unet=(8, 8, 16, 16), layers=1, heads=2, text_width=16, text_layers=1,
        recogniser_width=128, vae_steps=4, vae_batch=2, vae_crop_px=32,
        unet_steps=4, unet_batch=2, practice_steps=2,
        net_steps=4, net_batch=2,
    ),
}  # fmt: skip


def new_vae(preset: Preset) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    sizes: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": preset.vae,
    }
    return AutoencoderKL(layers_per_block=1, latent_channels=4, norm_num_groups=8, sample_size=preset.size_px, **sizes)


def new_unet(preset: Preset) -> Any:
    """With a FaceID adapter in place: its projector is `encoder_hid_proj`, its keys and values the processors'.

    The finest level is plain, as SDXL's is: attention there costs half of a step and adds little.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=preset.size_px // 8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=preset.unet,
        layers_per_block=preset.layers,
        attention_head_dim=preset.heads,
        cross_attention_dim=preset.text_width,
        norm_num_groups=8,
    )
    put_adapter(unet, _new_adapter(unet, preset))
    return unet


def new_text(preset: Preset, tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=preset.text_width,
        intermediate_size=4 * preset.text_width,
        num_hidden_layers=preset.text_layers,
        num_attention_heads=4,
        projection_dim=preset.text_width,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def new_scheduler() -> Any:
    """SD 1.5's noise, but the network predicts velocity, which small networks learn sooner, and it ends in noise alone.

    SD's last step leaves light and layout to be seen in so small a picture; begun from noise alone, all was a blur
    (Lin et al. 2024).
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_tokenizer(folder: Path, words: Iterable[str]) -> None:
    """A CLIP byte-pair tokenizer in its published layout, in which each of `words` is one token."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    merges: dict[tuple[str, str], None] = {}
    for word in sorted(set(words)):
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            # A merge an earlier word made comes first when the tokenizer runs, so it must come first here too.
            pairs = list(itertools.pairwise(parts))
            pair = next((known for known in merges if known in pairs), pairs[0])
            merges.setdefault(pair)
            joined: list[str] = []
            while parts:
                here = len(parts) > 1 and (parts[0], parts[1]) == pair
                joined.append("".join(pair) if here else parts[0])
                parts = parts[2 if here else 1 :]
            parts = joined
    made = dict.fromkeys("".join(pair) for pair in merges)
    vocab = [*letters, *(f"{letter}</w>" for letter in letters), *made, "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|endoftext|>"
    (folder / "special_tokens_map.json").write_text(json.dumps(special), "utf-8")
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def read_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    made = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    made.model_max_length = 77
    return made


def token_ids(tokenizer: Any, captions: list[str]) -> Tensor:
    """(N, 77)"""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


# ── the adapter ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _cross_attentions(unet: Any) -> list[str]:
    return [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]


def _new_adapter(unet: Any, preset: Preset) -> dict[str, dict[str, Tensor]]:
    width, tokens = preset.recogniser_width, FACE_TOKENS * preset.text_width
    layers = {"proj.0": torch.nn.Linear(width, 2 * width), "proj.2": torch.nn.Linear(2 * width, tokens)}
    layers["norm"] = torch.nn.LayerNorm(preset.text_width)  # type: ignore[assignment]
    projector = {f"{name}.{key}": v for name, layer in layers.items() for key, v in layer.state_dict().items()}
    attention = {}
    for k, path in enumerate(_cross_attentions(unet)):
        block = unet.get_submodule(path)
        for part in ("to_k", "to_v"):
            attention[f"{2 * k + 1}.{part}_ip.weight"] = getattr(block, part).weight.detach().clone()
    return {"image_proj": projector, "ip_adapter": attention}


def put_adapter(unet: Any, adapter: dict[str, dict[str, Tensor]]) -> None:
    unet._load_ip_adapter_weights([adapter], low_cpu_mem_usage=False)


class _Spread(torch.nn.Module):
    """A linear layer behind a fixed one."""

    matrix: Tensor

    def __init__(self, matrix: Tensor, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.layer = layer

    def forward(self, faces: Tensor) -> Tensor:
        return self.layer(faces @ self.matrix)

    def joined(self) -> torch.nn.Linear:
        """One layer that does the same."""
        made = copy.deepcopy(self.layer)
        made.weight.data = self.layer.weight.detach() @ self.matrix.T
        return made


def spread_faces(unet: Any, matrix: Tensor) -> None:
    """For training: the projector reads `faces @ matrix`, where what tells people apart is not small beside the rest.

    The published layout has no place for it, so `take_adapter` multiplies it in.
    """
    gate = unet.encoder_hid_proj.image_projection_layers[0].ff.net[0]
    gate.proj = _Spread(matrix.to(gate.proj.weight.device), gate.proj)


def set_face_scale(unet: Any, scale: float) -> None:
    """0 leaves the base alone, exactly."""
    for path in _cross_attentions(unet):
        unet.attn_processors[f"{path}.processor"].scale = [scale]


def take_adapter(unet: Any) -> dict[str, Tensor]:
    """The adapter's tensors by the published file's dotted names; its low-rank part is there and does nothing."""
    tensors = {}
    projector = copy.deepcopy(unet.encoder_hid_proj.image_projection_layers[0])
    if isinstance(gate := projector.ff.net[0].proj, _Spread):
        projector.ff.net[0].proj = gate.joined()
    for key, value in projector.state_dict().items():
        tensors[f"image_proj.{key.replace('ff.net.0.proj', 'proj.0').replace('ff.net.2', 'proj.2')}"] = value
    for k, path in enumerate(_cross_attentions(unet)):
        processor = unet.attn_processors[f"{path}.processor"]
        tensors[f"ip_adapter.{2 * k + 1}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        tensors[f"ip_adapter.{2 * k + 1}.to_v_ip.weight"] = processor.to_v_ip[0].weight
        for which, name in ((0, "attn1"), (1, "attn2")):
            block = unet.get_submodule(path.removesuffix("attn2") + name)
            for part in ("to_q", "to_k", "to_v", "to_out"):
                layer = block.to_out[0] if part == "to_out" else getattr(block, part)
                key = f"ip_adapter.{2 * k + which}.{part}_lora"
                tensors[f"{key}.down.weight"] = torch.zeros(_LORA_RANK, layer.in_features)
                tensors[f"{key}.up.weight"] = torch.zeros(layer.out_features, _LORA_RANK)
    return {key: value.detach().cpu().half().contiguous() for key, value in tensors.items()}


def plain(unet: Any) -> Any:
    """A copy of the UNet without the adapter."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    config = {k: v for k, v in dict(unet.config).items() if not k.startswith("_") and k != "encoder_hid_dim_type"}
    made: Any = UNet2DConditionModel.from_config(config)
    kept = {k: v for k, v in unet.state_dict().items() if "_ip." not in k and not k.startswith("encoder_hid_proj.")}
    made.load_state_dict(kept)
    return made


def new_identitynet(unet: Any) -> Any:
    """A ControlNet that begins as the UNet's inward half and adds nothing yet."""
    from diffusers.models.controlnets.controlnet import ControlNetModel

    return ControlNetModel.from_unet(plain(unet), conditioning_embedding_out_channels=_NET_CHANNELS)


def write_family(folder: Path, vae: Any, unet: Any, text: Any, tokenizer_folder: Path, identitynet: Any = None) -> None:
    """A diffusers folder in fp16 safetensors, the adapter's file and IdentityNet's folder beside it.

    The modules given are not changed.
    """
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from safetensors.torch import save_file

    pipe = StableDiffusionPipeline(
        vae=copy.deepcopy(vae),
        text_encoder=copy.deepcopy(text),
        tokenizer=read_tokenizer(tokenizer_folder),
        unet=plain(unet),
        scheduler=new_scheduler(),
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    write_back = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")
    for name in write_back:  # newer libraries save one joint file that older ones cannot read
        (folder / "tokenizer" / name).write_bytes((tokenizer_folder / name).read_bytes())
    save_file(take_adapter(unet), folder / ADAPTER_FILE)
    if identitynet is not None:
        copy.deepcopy(identitynet).to(torch.float16).save_pretrained(folder / NET_FOLDER, safe_serialization=True)
