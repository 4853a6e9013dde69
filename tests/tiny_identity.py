"""Small random Stable Diffusion pipelines and identity checkpoints of the published structure, for tests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from facechain.engines.identity import formats
from facechain.engines.identity.layout import Layout
from facechain.engines.identity.parts import Shapes
from facechain.types import Consent, Crop, Embedding, Face, Person, Pixels, Pose, Shot, Style

WORDS = ["a", "an", "photo", "of", "person", "id", "man", "woman", "img", "tok"]
WORDS += ["portrait", "in", "the", "rain", "red", "blurry", "suit"]


def tokenizer(folder: Path):
    """A CLIP tokenizer that knows single letters and WORDS."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    vocab = {**dict.fromkeys(letters), **dict.fromkeys(f"{c}</w>" for c in letters)}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            known = [pair for pair in itertools.pairwise(parts) if pair in merges]
            pair = min(known, key=merges.index) if known else (parts[0], parts[1])
            if not known:
                merges.append(pair)
                vocab.setdefault("".join(pair))
            at = list(itertools.pairwise(parts)).index(pair)
            parts[at : at + 2] = ["".join(pair)]
    vocab = {**vocab, "<|startoftext|>": None, "<|endoftext|>": None}
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges))
    made = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    made.model_max_length = 77
    return made


def _text(width: int, words, projected: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def _vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
    ).eval()


def sd15(folder: Path, context: int = 64, seed: int = 0):
    """A StableDiffusionPipeline of about 400 thousand parameters; always the same for a seed."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    words = tokenizer(folder)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=context,
        attention_head_dim=2,
        norm_num_groups=8,
        sample_size=8,
    ).eval()
    pipe = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_text(context, words),
        tokenizer=words,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl(folder: Path, seed: int = 0):
    """A StableDiffusionXLPipeline of about half a million parameters; always the same for a seed."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    words = tokenizer(folder)
    pipe = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_text(32, words),
        text_encoder_2=_text(64, words, projected=True),
        tokenizer=words,
        tokenizer_2=words,
        unet=UNet2DConditionModel(**XL_UNET, in_channels=4, out_channels=4).eval(),
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


XL_UNET = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 96,
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64 + 6 * 8,
    "norm_num_groups": 8,
    "sample_size": 8,
}


def identitynet(folder: Path, seed: int = 0) -> Path:
    """A ControlNet folder for `sdxl`, with its zero convolutions filled so that it acts."""
    from diffusers import ControlNetModel

    torch.manual_seed(seed)
    kept = {k: v for k, v in XL_UNET.items() if k not in ("up_block_types", "sample_size")}
    net = ControlNetModel(**kept, conditioning_embedding_out_channels=(16, 16, 16, 16))
    for name, weight in net.named_parameters():
        if "controlnet" in name:
            torch.nn.init.normal_(weight, std=0.1)
    net.save_pretrained(folder / "ControlNetModel")
    return folder / "ControlNetModel"


def layout(pipe) -> Layout:
    from facechain.engines.identity.attention import layout_of

    return layout_of(pipe.unet)


# sizes that keep files small; builders take the rest from the layout
SMALL = {
    "faceid": {"rank": 4},
    "faceid_plus": {"rank": 4, "clip": 64, "inner": 64},
    "portrait": {"tokens": 3},
    "instantid": {"dim": 64, "inner": 64, "queries": 4},
    "photomaker_v1": {
        "rank": 4, "vision": 64, "layers": 2, "mlp": 64, "patch": 14, "positions": 5, "first": 32,
    },
    "photomaker_v2": {
        "rank": 4, "vision": 64, "layers": 2, "mlp": 64, "patch": 14, "positions": 5, "first": 32, "inner": 128,
    },
    "pulid_v1": {"width": 32, "emb": 528, "vit": 64},
    "pulid_v11": {"dim": 64, "inner": 64, "queries": 4, "width": 32, "emb": 528, "vit": 64, "depth": 5},
    "fact": {"dim": 64, "inner": 64, "queries": 4, "emb": 64},
}  # fmt: skip


def filled(shapes: Shapes, seed: int = 1, gain: float = 0.3) -> dict[str, torch.Tensor]:
    """Random tensors of these shapes; norm weights about 1, gates open."""
    made, random = {}, torch.Generator().manual_seed(seed)
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=random) * (
            0.3 / max(1, shape[-1] if shape else 1) ** 0.5 if shape else 0.5
        )
        made[key] = value + 1 if len(shape) == 1 and key.endswith("weight") else value
    return made


def weights(structure: str, where: Layout | None = None, seed: int = 1) -> dict[str, torch.Tensor]:
    """A small checkpoint of this structure."""
    if structure == "transface":
        return filled(formats.transface(width=64, layers=1, patch=16, patches=49, mlp=64), seed)
    if structure == "eva_clip":
        return filled(formats.eva_clip(width=64, layers=21, mlp=32, positions=5, out=16), seed)
    gain = 1.0 if "photomaker" in structure else 0.3  # a face must show through many layers there
    return filled(getattr(formats, structure)(where, **SMALL.get(structure, {})), seed, gain)


def nested(flat: Mapping[str, torch.Tensor]) -> dict:
    """As the published pickles are: two dictionaries inside one."""
    tree: dict = {}
    for key, value in flat.items():
        top, rest = key.split(".", 1)
        tree.setdefault(top, {})[rest] = value
    return tree


def save(path: Path, flat: Mapping[str, torch.Tensor]) -> Path:
    """In the form that suits the name: nested pickle for .bin, flat pickle for .ckpt and .pt, safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in flat.items()}, path)
    else:
        torch.save(nested(flat) if path.suffix == ".bin" else dict(flat), path)
    return path


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class FakeReader:
    """512 numbers that depend only on the picture."""

    def __init__(self, recogniser: str, unit_norm: bool) -> None:
        self.recogniser, self.unit_norm = recogniser, unit_norm

    def embed(self, pixels: Pixels, faces) -> tuple[Embedding, ...]:
        vector = np.random.default_rng(int(pixels.sum())).normal(size=512).astype(np.float32)
        vector *= (1 if self.unit_norm else 22) / np.linalg.norm(vector)
        return tuple(Embedding(vector=vector, recogniser=self.recogniser, unit_norm=self.unit_norm) for _ in faces)

    def detect(self, pixels: Pixels) -> tuple[Face, ...]:
        raise NotImplementedError

    def read(self, pixels: Pixels) -> tuple[Face, ...]:
        raise NotImplementedError


POINTS = np.array([[50, 50], [78, 50], [64, 68], [53, 84], [75, 84]], np.float32)


def crop(seed: int, pixels: Pixels | None = None, face: Face | None = None, quality: float = 0.9) -> Crop:
    if pixels is None:
        pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8).repeat(32, 0).repeat(32, 1)
    pose = Pose(yaw_deg=0, pitch_deg=0, roll_deg=0)
    face = face or Face(box_px=np.array([40, 36, 88, 100], np.float32), points_px=POINTS, score=0.9, pose=pose)
    mask = np.ones(pixels.shape[:2], np.float32)
    return Crop(
        photo_id=f"{seed:064x}", photo_name=f"{seed}.jpg", pixels=pixels, face=face, head_mask=mask, quality=quality
    )


def person(*crops: Crop, name: str = "ada") -> Person:
    crops = crops or (crop(1), crop(2), crop(3))
    consent = Consent(who=name, given_by=name, purpose="test", when=datetime(2026, 1, 1, tzinfo=UTC))
    nobody = Embedding(vector=np.ones(1, np.float32), recogniser="none")
    return Person(name=name, crops=crops, held_out=(), template=nobody, consent=consent)


def shot(seed: int = 7, prompt: str = "photo of a man in the rain", **options) -> Shot:
    options = {"sampler": "", "steps": 2, "guidance": 3.0, **options}
    return Shot(index=0, seed=seed, prompt=prompt, negative="blurry", width_px=64, height_px=64, options=options)


STYLE = Style(id="plain", title="Plain", licence="CC0-1.0")
