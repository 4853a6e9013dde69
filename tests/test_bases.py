"""Bases as people have them: what is whole opens whichever way it is laid out, what is damaged is refused by name."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny

from facechain.engines.diffusion.base import BaseRef, assemble, family_of
from facechain.engines.diffusion.controls import open_net
from facechain.errors import EngineError, FaceChainError, PackError, PackMissing

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT, TEXT_2 = "text_encoder/model.safetensors", "text_encoder_2/model.safetensors"
NETWORKS = [
    ("sd15", UNET),
    ("sd15", VAE),
    ("sd15", TEXT),
    ("sdxl", UNET),
    ("sdxl", VAE),
    ("sdxl", TEXT),
    ("sdxl", TEXT_2),
]


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def whole(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def copy(request, tmp_path) -> Callable[[str], Path]:
    """A copy of a base, for a test to damage."""
    return lambda family: Path(shutil.copytree(request.getfixturevalue(family), tmp_path / "mine"))


def state(pipe) -> dict[str, torch.Tensor]:
    """Every number of a pipeline."""
    parts = {name: net for name, net in pipe.components.items() if isinstance(net, torch.nn.Module)}
    return {f"{name}.{key}": value for name, net in parts.items() for key, value in net.state_dict().items()}


def assert_equal(one, other) -> None:
    mine, theirs = state(one), state(other)
    assert set(mine) == set(theirs)
    assert not [key for key in mine if not torch.equal(mine[key], theirs[key])]


def changed(file: Path, change: Callable[[dict], dict]) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def edited(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **values}), "utf-8")


# ── what opens ───────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_what_diffusers_makes_of_it(whole):
    from diffusers import DiffusionPipeline

    assert_equal(assemble(BaseRef(path=whole)), DiffusionPipeline.from_pretrained(whole))


def test_a_velocity_base_stays_one(copy):
    mine = copy("sd15")
    edited(mine / "scheduler/scheduler_config.json", prediction_type="v_prediction")
    assert assemble(BaseRef(path=mine)).scheduler.config.prediction_type == "v_prediction"


def fp16_only(mine: Path) -> None:
    for file in list(mine.rglob("*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))


def pickled(mine: Path) -> None:
    for file in list(mine.rglob("*.safetensors")):
        torch.save(
            load_file(file),
            file.with_name(
                file.name.replace("model.safe", "pytorch_model.safe") if file.stem == "model" else file.name
            ).with_suffix(".bin"),
        )
        file.unlink()


def sharded(mine: Path, variant: str = "") -> None:
    file = mine / UNET
    tensors, names = load_file(file), {}
    for number, keys in enumerate(np.array_split(sorted(tensors), 2), start=1):
        shard = f"{file.stem}{variant}-0000{number}-of-00002.safetensors"
        save_file({key: tensors[key] for key in keys}, file.with_name(shard))
        names |= dict.fromkeys(map(str, keys), shard)
    index = f"{file.stem}.safetensors.index{variant}.json"
    file.with_name(index).write_text(json.dumps({"metadata": {}, "weight_map": names}), "utf-8")
    file.unlink()


def old_vae_names(mine: Path) -> None:
    """As SD 1.5 was published: diffusers renamed a VAE's attention in 0.18."""
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def old(key: str) -> str:
        for new, name in names.items():
            key = key.replace(new, name)
        return key

    changed(mine / VAE, lambda tensors: {old(key): value for key, value in tensors.items()})


def other_prefix(mine: Path) -> None:
    """transformers dropped the prefix in 5.6: files of both kinds are about, with positions and without."""

    def other(tensors: dict) -> dict:
        bare = {key.removeprefix("text_model."): value for key, value in tensors.items()}
        made = {key if key == "text_projection.weight" else f"text_model.{key}": v for key, v in bare.items()}
        return made | {"text_model.embeddings.position_ids": torch.arange(77)[None]}

    for file in mine.glob("text_encoder*/model.safetensors"):
        changed(file, other)


def absent_checker(mine: Path) -> None:
    names = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    names |= {"feature_extractor": ["transformers", "CLIPFeatureExtractor"]}
    edited(mine / "model_index.json", **names, requires_safety_checker=True)


@pytest.mark.parametrize(
    "relaid",
    [fp16_only, pickled, sharded, lambda mine: sharded(mine, ".fp16"), old_vae_names, other_prefix, absent_checker],
    ids=["fp16-only", "pickles", "shards", "fp16-shards", "old-vae-names", "text-prefix", "absent-checker"],
)
def test_folders_of_every_layout_open(whole, copy, relaid):
    mine = copy(whole.name)
    relaid(mine)
    pipe = assemble(BaseRef(path=mine))
    assert_equal(pipe, assemble(BaseRef(path=whole)))
    assert getattr(pipe, "safety_checker", None) is None


def old_clip_names(tensors: dict) -> dict:
    return {key.replace(".transformer.text_model.", ".transformer."): value for key, value in tensors.items()}


def with_leftovers(tensors: dict) -> dict:
    """What published single files have beside the weights that are painted with."""
    ema = {
        f"model_ema.{key.removeprefix('model.').replace('.', '')}": v for key, v in tensors.items() if "out.2" in key
    }
    xl = any(key.startswith("conditioner.") for key in tensors)
    text = "conditioner.embedders.1.model" if xl else "cond_stage_model.transformer.text_model"
    unread = f"{text}.logit_scale" if xl else f"{text}.embeddings.position_ids"
    schedule = ("betas", "alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "logvar", "first_stage_model.loss.logvar")
    return tensors | ema | dict.fromkeys((*schedule, unread), torch.ones(2))


@pytest.mark.parametrize("named", [dict, old_clip_names, with_leftovers])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_single_files_of_every_kind_open(whole, tmp_path, named, suffix):
    file = tiny.single_file(tmp_path / "base.safetensors", whole)
    tensors = {key: value.clone() for key, value in named(load_file(file)).items()}
    if suffix == ".ckpt":
        file = file.with_suffix(suffix)
        torch.save({"state_dict": tensors, "global_step": 3, "callbacks": {"n": 1}}, file)
    else:
        save_file(tensors, file)
    assert family_of(file) == whole.name
    assert_equal(assemble(BaseRef(path=file, layout=whole)), assemble(BaseRef(path=whole)))


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_base_without_vae_opens_with_one_and_says_so_without(whole, copy, tmp_path, kind):
    mine, vae = copy(whole.name), tmp_path / "other"
    shutil.move(mine / "vae", vae)
    if kind == "file":
        file = tiny.single_file(tmp_path / "base.safetensors", whole)
        changed(file, lambda tensors: {k: v for k, v in tensors.items() if not k.startswith("first_stage_model.")})
        mine = file
    base = BaseRef(path=mine, layout=whole if kind == "file" else None)
    with pytest.raises(EngineError, match=r"has no VAE.*--set vae="):
        assemble(base)
    for given in (vae, vae / "diffusion_pytorch_model.safetensors"):
        assert_equal(assemble(BaseRef(path=base.path, layout=base.layout, vae=given)), assemble(BaseRef(path=whole)))


@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_controlnets_of_the_published_file_open(sd15, tmp_path, prefix):
    from facechain.engines.diffusion.conventions import ldm_controlnet

    unet = assemble(BaseRef(path=sd15)).unet
    folder = tiny.controlnet(tmp_path / "net", sd15, embedding=(16, 32, 96, 256))
    net = open_net(folder, unet)
    names = ldm_controlnet(net.config, unet.config)
    assert names("controlnet_cond_embedding.conv_out.weight").key == "input_hint_block.14.weight"
    assert names("controlnet_cond_embedding.blocks.5.bias").key == "input_hint_block.12.bias"
    file = tmp_path / "control.safetensors"
    save_file({prefix + names(key).key: value.contiguous() for key, value in net.state_dict().items()}, file)
    again = open_net(file, unet)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


def some_key(tensors: dict) -> str:
    return next(key for key in sorted(tensors) if ".0." in key and key.endswith("weight"))


def without(tensors: dict) -> dict:
    return {key: value for key, value in tensors.items() if key != some_key(tensors)}


def with_more(tensors: dict) -> dict:
    return tensors | {"surprise.weight": torch.ones(2)}


def other_shape(tensors: dict) -> dict:
    return tensors | {some_key(tensors): torch.ones(3, 5)}


def not_a_number(tensors: dict) -> dict:
    hit = tensors[some_key(tensors)].clone()
    hit.flatten()[-1] = float("nan")
    return tensors | {some_key(tensors): hit}


def infinite(tensors: dict) -> dict:
    hit = tensors[some_key(tensors)].half()
    hit.flatten()[0] = float("-inf")
    return tensors | {some_key(tensors): hit}


TENSORS = {
    without: "lacks tensors",
    with_more: "no place in",
    other_shape: "wrongly shaped",
    not_a_number: "NaN or inf",
}
TENSORS |= {infinite: "NaN or inf"}


@pytest.mark.parametrize(("family", "part"), NETWORKS)
@pytest.mark.parametrize(("damage", "told"), TENSORS.items(), ids=[damage.__name__ for damage in TENSORS])
def test_a_part_of_a_folder_that_is_not_whole_is_refused_by_name(copy, family, part, damage, told):
    """A text encoder without a layer was painted with, random numbers in its place."""
    mine = copy(family)
    key = "surprise" if damage is with_more else some_key(load_file(mine / part))
    changed(mine / part, damage)
    with pytest.raises(PackError, match=told) as caught:
        assemble(BaseRef(path=mine))
    assert key in caught.value.what
    title = {UNET: "UNet", VAE: "VAE", TEXT: "text encoder", TEXT_2: "second text encoder"}[part]
    assert title in caught.value.what or Path(part).name in caught.value.what
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("family", "prefix", "title"),
    [
        ("sd15", "model.diffusion_model.", "UNet"),
        ("sd15", "first_stage_model.", "VAE"),
        ("sd15", "cond_stage_model.transformer.", "text encoder"),
        ("sdxl", "conditioner.embedders.0.transformer.", "text encoder"),
        ("sdxl", "conditioner.embedders.1.model.", "second text encoder"),
    ],
)
def test_a_part_of_a_single_file_that_is_not_whole_is_refused_by_name(request, tmp_path, family, prefix, title):
    folder = request.getfixturevalue(family)
    file = tiny.single_file(tmp_path / "base.safetensors", folder)
    tensors = load_file(file)
    key = next(key for key in sorted(tensors) if key.startswith(prefix) and ".1." in key and "input_blocks" not in key)
    save_file({k: v for k, v in tensors.items() if k != key}, file)
    with pytest.raises(PackError, match=f"[Tt]he {title} of base lacks tensors") as caught:
        assemble(BaseRef(path=file, layout=folder))
    assert key in caught.value.what
    save_file(tensors | {f"{prefix}surprise": torch.ones(1)}, file)
    with pytest.raises(PackError, match=f"no place in base: {prefix}surprise"):
        assemble(BaseRef(path=file, layout=folder))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3438167540\n", "utf-8")


def page(file: Path) -> None:
    file.write_text("<!doctype html><title>Sign in</title>", "utf-8")


def list_header(file: Path) -> None:
    header = b"[1, 2]"
    file.write_bytes(struct.pack("<Q", len(header)) + header)


def empty(file: Path) -> None:
    file.write_bytes(b"")


FILES = {cut: "is cut short: [\\d,]+ of [\\d,]+ bytes", pointer: "is a Git LFS pointer", page: "is a web page"}
FILES |= {list_header: "does not list tensors", empty: "is cut short"}


@pytest.mark.parametrize(("family", "part"), [*NETWORKS, ("sd15", "base.safetensors"), ("sdxl", "base.safetensors")])
@pytest.mark.parametrize(("damage", "told"), FILES.items(), ids=[damage.__name__ for damage in FILES])
def test_files_that_are_no_weights_are_refused(request, copy, tmp_path, family, part, damage, told):
    mine, layout = copy(family), None
    if part == "base.safetensors":
        mine, layout = tiny.single_file(tmp_path / part, request.getfixturevalue(family)), mine
    damage(mine if layout else mine / part)
    with pytest.raises(PackError, match=told) as caught:
        assemble(BaseRef(path=mine, layout=layout))
    assert Path(part).name in caught.value.what


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    ],
)
@pytest.mark.parametrize("content", ["[]", "{", "\x00", '"text"', "[" * 100_000])
def test_json_that_is_no_mapping_is_refused_by_its_name(copy, name, content):
    mine = copy("sd15")
    (mine / name).write_text(content, "utf-8")
    with pytest.raises(PackError, match=f"{Path(name).name} (is not JSON|holds a )"):
        assemble(BaseRef(path=mine))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("unet/config.json", {"block_out_channels": "wide"}),
        ("unet/config.json", {"in_channels": "four"}),
        ("vae/config.json", {"norm_num_groups": 0}),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}),
        ("vae/config.json", {"latent_channels": 16}),
        ("text_encoder/config.json", {"hidden_size": "many"}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "none"}),
        ("model_index.json", {"scheduler": ["os", "system"]}),
        ("model_index.json", {"scheduler": 3}),
    ],
)
def test_configurations_that_describe_nothing_are_refused(copy, name, values):
    mine = copy("sd15")
    edited(mine / name, **values)
    with pytest.raises(FaceChainError) as caught:
        assemble(BaseRef(path=mine))
    assert caught.value.next_step


@pytest.mark.parametrize("missing", ["unet", "text_encoder", "tokenizer", "scheduler", TEXT, UNET, "unet/config.json"])
def test_what_is_missing_from_a_folder_is_named(copy, missing):
    mine = copy("sd15")
    gone = mine / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(PackMissing, match=missing.split("/")[0].replace("_", ".")) as caught:
        assemble(BaseRef(path=mine))
    assert caught.value.next_step


def test_shards_that_are_not_those_of_the_index_are_named(copy):
    mine = copy("sd15")
    sharded(mine)
    surplus = mine / "unet/diffusion_pytorch_model-00001-of-00003.safetensors"
    surplus.write_bytes(b"")
    with pytest.raises(PackError, match="does not name: diffusion_pytorch_model-00001-of-00003"):
        assemble(BaseRef(path=mine))
    surplus.unlink()
    (mine / "unet/diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(PackError, match="lacks 1 of 2 shards: diffusion_pytorch_model-00002-of-00002"):
        assemble(BaseRef(path=mine))


def test_half_a_base_is_told_from_a_whole_one(sd15, tmp_path):
    file = tiny.single_file(tmp_path / "base.safetensors", sd15)
    tensors = load_file(file)

    def refused(kept: dict, told: str) -> None:
        save_file({key: value.clone() for key, value in kept.items()}, tmp_path / "half.safetensors")
        with pytest.raises(EngineError, match=told):
            family_of(tmp_path / "half.safetensors")

    unet = {k: v for k, v in tensors.items() if k.startswith("model.diffusion_model.")}
    refused(unet, "has no text encoder")
    refused({k.removeprefix("model.diffusion_model."): v for k, v in unet.items()}, "is a UNet alone")
    refused(load_file(sd15 / UNET), "is a UNet alone")
    refused(load_file(sd15 / VAE), "is a VAE alone")
    refused(load_file(sd15 / TEXT), "is a text encoder alone")
    refused({"lora_unet_x.lora_down.weight": torch.ones(1)}, "is a LoRA, not a base")
    with pytest.raises(EngineError, match="holds UNet2DConditionModel alone"):
        family_of(sd15 / "unet")
    with pytest.raises(EngineError, match=r"no model_index\.json"):
        family_of(tmp_path)


def test_a_pickle_that_could_run_code_is_not_run(tmp_path):
    torch.save({"state_dict": {"x": Path("/")}}, tmp_path / "model.ckpt")
    with pytest.raises(PackError, match="could run code"):
        family_of(tmp_path / "model.ckpt")
