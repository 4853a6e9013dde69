"""Bases from folders and files, and what a machine without an accelerator makes of every setup."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from facechain.engines.diffusion.base import BaseRef, family_of, layout_beside, load
from facechain.engines.diffusion.layouts import LAYOUTS, write_layout
from facechain.engines.diffusion.setup import Setup
from facechain.errors import EngineError

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request) -> Path:
    return request.getfixturevalue(request.param)


def picture(pipe, steps: int = 2):
    seed = torch.Generator().manual_seed(3)
    return pipe("a red coat", num_inference_steps=steps, width=64, height=64, generator=seed, output_type="np").images


@pytest.fixture(scope="module")
def plain(folder):
    return picture(load(BaseRef(path=folder)))


def test_folder_and_file_paint_the_same(folder, plain, tmp_path):
    file = tiny.single_file(tmp_path / "base.safetensors", folder)
    assert family_of(file) == family_of(folder) == folder.name
    other = picture(load(BaseRef(path=file, layout=folder)))
    assert plain.std() > 0.05
    np.testing.assert_allclose(plain, other, atol=2e-5)


def test_own_vae(folder, plain, tmp_path):
    from diffusers import AutoencoderKL

    torch.manual_seed(5)
    vae = AutoencoderKL(**{k: v for k, v in load(BaseRef(path=folder)).vae.config.items() if not k.startswith("_")})
    vae.save_pretrained(tmp_path / "vae")
    changed = picture(load(BaseRef(path=folder, vae=tmp_path / "vae")))
    assert np.abs(plain - changed).max() > 0.01


@pytest.fixture
def merges(folder, tmp_path, monkeypatch) -> Path:
    """Our layouts made as small as the tiny base; returns its words as OpenCLIP lists CLIP's."""
    small = {name: json.loads((folder / name).read_text("utf-8")) for name in LAYOUTS[folder.name]}
    monkeypatch.setitem(LAYOUTS, folder.name, small)
    listed = tmp_path / "merges.txt.gz"
    listed.write_bytes(gzip.compress((folder / "tokenizer" / "merges.txt").read_bytes().strip()))
    return listed


def test_a_file_and_a_list_of_words_are_a_base(folder, plain, merges, tmp_path):
    file = tiny.single_file(tmp_path / "base.safetensors", folder)
    assert layout_beside(file) is None
    np.testing.assert_allclose(plain, picture(load(BaseRef(path=file, vocabulary=merges))), atol=2e-5)


def test_files_marked_so_answer_with_a_velocity(folder, plain, merges, tmp_path):
    from safetensors.torch import load_file, save_file

    from facechain.engines.diffusion.samplers import scheduler

    file = tiny.single_file(tmp_path / "base.safetensors", folder)
    save_file({**load_file(file), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, file)
    pipe = load(BaseRef(path=file, vocabulary=merges))
    assert scheduler("ddim", pipe.scheduler).config.prediction_type == "v_prediction"
    if folder.name == "sdxl":  # SD 1.5's own scheduler knows nothing of it
        made = scheduler("ddim", pipe.scheduler)
        assert made.config.rescale_betas_zero_snr
        made.set_timesteps(4)
        assert int(made.timesteps[0]) == made.config.num_train_timesteps - 1, "it begins in noise alone"
    assert np.abs(plain - picture(pipe)).max() > 0.01


def test_a_folder_of_its_name_says_what_a_file_is_made_of(folder, tmp_path):
    file = tiny.single_file(tmp_path / f"{folder.name}.safetensors", folder)
    assert layout_beside(file) is None
    (tmp_path / folder.name).symlink_to(folder)
    assert layout_beside(file) == tmp_path / folder.name
    assert layout_beside(folder) is None


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_own_vae_in_one_file(folder, merges, tmp_path, prefix):
    from safetensors.torch import load_file, save_file

    of = {"sd15": tiny.sd15, "sdxl": tiny.sdxl}[folder.name](tmp_path / "other", seed=5)
    whole = load_file(tiny.single_file(tmp_path / "other.safetensors", of))
    name = "first_stage_model."
    only = {prefix + key.removeprefix(name): value for key, value in whole.items() if key.startswith(name)}
    save_file(only, tmp_path / "vae.safetensors")
    one, other = (load(BaseRef(path=folder, vae=tmp_path / vae)) for vae in ("vae.safetensors", "other/vae"))
    np.testing.assert_allclose(picture(one), picture(other), atol=2e-5)


def test_the_published_words_are_split_as_clip_splits_them(models, tmp_path):
    from transformers import CLIPTokenizer

    write_layout(tmp_path, "sdxl", models / "clip_vocabulary" / "bpe_simple_vocab_16e6.txt.gz")
    for part, pad in (("tokenizer", 49407), ("tokenizer_2", 0)):
        tokenizer = CLIPTokenizer.from_pretrained(tmp_path / part)
        assert len(tokenizer) == 49408
        assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
        assert tokenizer("cat", padding="max_length").input_ids == [49406, 2368, 49407, *[pad] * 74]


def test_compiled_blocks_paint_the_same(folder, plain, monkeypatch):
    """Taken apart as torch.compile takes them; no code is generated, as that takes minutes."""
    compiled, seen = torch.nn.Module.compile, set()

    def eager(self, *given, **more):
        seen.add(type(self).__name__)
        return compiled(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", eager)
    made = picture(load(BaseRef(path=folder, setup=Setup(compile=True))))
    assert seen == {"BasicTransformerBlock"}
    np.testing.assert_allclose(made, plain, atol=5e-5)


@pytest.mark.parametrize("offload", ["none", "model", "group", "sequential"])
def test_every_offload_level_paints_the_same_on_a_cpu(folder, plain, offload):
    np.testing.assert_array_equal(picture(load(BaseRef(path=folder, setup=Setup(offload=offload)))), plain)


@pytest.mark.parametrize(
    "setup",
    [Setup(attention="xformers"), Setup(attention="sdpa"), Setup(channels_last=False), Setup(vae_tiling=True)],
    ids=["xformers", "sdpa", "plain-layout", "tiling"],
)
def test_setups_change_speed_not_the_picture(folder, plain, setup):
    np.testing.assert_allclose(picture(load(BaseRef(path=folder, setup=setup))), plain, atol=5e-5)


def test_half_precision(folder):
    pipe = load(BaseRef(path=folder, setup=Setup(precision="bf16")))
    assert pipe.unet.dtype == torch.bfloat16
    assert np.isfinite(picture(pipe)).all()
    assert load(BaseRef(path=folder, setup=Setup(precision="fp16", device="cpu"))).unet.dtype == torch.float32


def test_safety_checker_stays_on(tmp_path):
    pipe = load(BaseRef(path=tiny.sd15(tmp_path / "safe", safety=True)))
    assert pipe.safety_checker is not None


def test_other_threads_may_make_networks_while_a_base_opens(folder, plain, monkeypatch):
    """diffusers' own readers switch memory off for the whole process: what others make then is nowhere."""
    from concurrent.futures import ThreadPoolExecutor

    from diffusers import UNet2DConditionModel

    made, others = UNet2DConditionModel.from_config, []

    def watched(config):
        with ThreadPoolExecutor(1) as thread:
            others.append(thread.submit(torch.nn.Linear, 2, 2).result())
        return made(config)

    monkeypatch.setattr(UNet2DConditionModel, "from_config", watched)
    pipe = load(BaseRef(path=folder))
    assert [layer.weight.is_meta for layer in others] == [False]
    assert not any(value.is_meta for value in (*pipe.unet.parameters(), *pipe.text_encoder.buffers()))
    np.testing.assert_array_equal(picture(pipe), plain)


def test_published_layouts_have_the_published_sizes():
    """Parameter counts of the real UNets, from our configuration alone; nothing is allocated."""
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    for family, millions in {"sd15": 859.52, "sdxl": 2567.46}.items():
        with init_empty_weights():
            unet = UNet2DConditionModel.from_config(LAYOUTS[family]["unet/config.json"])
        assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_what_is_no_base_is_refused(folder, tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(EngineError, match="no base model"):
        family_of(tmp_path / "nowhere")
    refiner = tmp_path / "refiner.safetensors"
    save_file(
        {
            "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
            "conditioner.embedders.0.model.text_projection": torch.zeros(2, 2),
        },
        refiner,
    )
    with pytest.raises(EngineError, match="sdxl-refiner"):
        family_of(refiner)
    file = tiny.single_file(tmp_path / "base.safetensors", folder)
    with pytest.raises(EngineError, match="clip_vocabulary"):
        load(BaseRef(path=file))


def test_unknown_settings_are_named():
    with pytest.raises(EngineError, match="Known: auto, sdpa"):
        Setup(attention="magic")
