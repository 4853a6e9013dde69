"""Bases from folders and files, and what a machine without an accelerator makes of every setup."""

import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from facechain.engines.diffusion.base import BaseRef, family_of, load
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


def test_two_threads_open_bases_one_after_the_other(folder, plain, monkeypatch):
    """A second one meanwhile would get weights that are nowhere: diffusers switches memory off for the process."""
    from concurrent.futures import ThreadPoolExecutor

    from diffusers import DiffusionPipeline

    opened, inside, most = DiffusionPipeline.from_pretrained.__func__, [], []

    def watched(cls, *given, **more):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.1)
        try:
            return opened(cls, *given, **more)
        finally:
            inside.pop()

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(watched))
    with ThreadPoolExecutor(3) as threads:
        pipes = list(threads.map(lambda _: load(BaseRef(path=folder)), range(3)))
    assert most == [1, 1, 1]
    assert all(not value.is_meta for pipe in pipes for value in pipe.unet.parameters())
    np.testing.assert_array_equal(picture(pipes[-1]), plain)


def test_published_layouts_have_the_published_sizes():
    """Parameter counts of the real UNets, from our configuration alone; nothing is allocated."""
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    from facechain.engines.diffusion.layouts import LAYOUTS

    for family, millions in {"sd15": 859.52, "sdxl": 2567.46}.items():
        with init_empty_weights():
            unet = UNet2DConditionModel.from_config(LAYOUTS[family]["unet/config.json"])
        assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_what_is_no_base_is_refused(folder, tmp_path):
    from safetensors.torch import save_file

    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"x")
    with pytest.raises(EngineError, match="safetensors"):
        family_of(pickle)
    with pytest.raises(EngineError, match="no base model"):
        family_of(tmp_path / "nowhere")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(EngineError, match="not a safetensors file"):
        family_of(torn)
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
