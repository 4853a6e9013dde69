"""What every session on a base promises, without a person: options, LoRAs, pictures to start from, and no trace."""

import shutil

import numpy as np
import pytest
from diffusion_kit import Bare, context

from facechain.errors import EngineError
from facechain.types import Photo, Shot, Style

torch = pytest.importorskip("torch")

STYLE = Style(id="test", title="test", licence="none", steps=2, sampler="ddim")


def shot(**options):
    return Shot(index=0, seed=5, prompt="a man", negative="", width_px=64, height_px=64, options=options)


@pytest.fixture(scope="module")
def engine(sd15):
    torch.set_num_threads(1)
    return Bare(context(sd15))


def test_options_outrank_a_fast_mode_which_outranks_the_style(engine, sd15):
    from facechain.engines.diffusion.samplers import FastMode

    mode = FastMode(id="lcm", title="LCM", licence="MIT", sampler="lcm", steps=1, guidance=0.0, distilled_base=True)
    able = Bare(context(sd15, fast={"lcm": mode}))
    assert able.resolve(STYLE, {}).steps == 2
    resolved = able.resolve(STYLE, {"fast": "lcm", "guidance": 3})
    assert (resolved.sampler, resolved.steps, resolved.guidance) == ("lcm", 1, 3)
    with pytest.raises(EngineError, match="no fast mode 'warp'"):
        able.resolve(STYLE, {"fast": "warp"})


def test_a_styles_options_for_other_engines_are_passed_over_and_those_asked_for_are_not(engine):
    style = Style(id="s", title="s", licence="none", options={"shape": 0.3, "steps": 7})
    assert engine.resolve(style, {"shape": 0.3, "steps": 7}).steps == 7, "a shot repeats its style's options"
    with pytest.raises(EngineError, match="no option 'shade'"):
        engine.resolve(style, {"shade": 0.3})


def test_the_same_base_is_opened_once_for_two_engines(sd15):
    shared = context(sd15)
    one, other = Bare(shared), Bare(shared)
    with one.session() as paint:
        first = paint(shot())
    held = shared.models.held_bytes
    with other.session() as paint:
        np.testing.assert_array_equal(paint(shot()), first)
    assert shared.models.held_bytes == held > 0


def test_precision_tiling_and_a_vae_of_ones_own_are_had_and_leave_with_the_session(engine, tmp_path):
    from diffusers import AutoencoderKL

    own = engine.context.models.pipeline(engine.context.base()).vae
    other = AutoencoderKL.from_config(own.config)
    other.save_pretrained(tmp_path / "vae")
    with engine.session() as paint:
        plain = paint(shot())
        rounded, tiled = paint(shot(precision="bf16")), paint(shot(vae_tiling=True))
        decoded = paint(shot(vae=str(tmp_path / "vae")))
        np.testing.assert_array_equal(paint(shot()), plain)
    assert 0 < np.abs(rounded.astype(int) - plain).mean() < 20
    assert np.abs(tiled.astype(int) - plain).max() <= 1
    assert np.abs(decoded.astype(int) - plain).mean() > 5


def test_an_initial_image_is_kept_as_far_as_the_strength_says(engine):
    start = np.kron(np.random.default_rng(1).integers(0, 255, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    photo = Photo(id="s", name="s", pixels=start)
    with engine.session() as paint:
        little, much = (paint(shot(init_image=photo, denoising_strength=s, steps=5)).astype(int) for s in (0.2, 1.0))
        white = np.zeros((64, 64, 3), np.uint8)
        white[:32] = 255
        masked = paint(shot(init_image=photo, mask=Photo(id="m", name="m", pixels=white)))
        with pytest.raises(EngineError, match="denoising_strength is 0"):
            paint(shot(init_image=photo, denoising_strength=0))
    assert np.abs(little - much).mean() > 1
    np.testing.assert_array_equal(masked[32:], start[32:])
    assert (masked[:32] != start[:32]).any()


def test_a_base_without_a_vae_needs_one_named(sd15, tmp_path):
    shutil.copytree(sd15, tmp_path / "bare")
    (tmp_path / "bare" / "vae").rename(tmp_path / "vae")
    with Bare(context(sd15)).session() as paint:
        whole = paint(shot())
    with Bare(context(tmp_path / "bare")).session() as paint:
        with pytest.raises(EngineError, match="--set vae="):
            paint(shot())
        np.testing.assert_array_equal(paint(shot(vae=str(tmp_path / "vae"))), whole)


def test_no_shot_is_looked_at_before_its_turn(engine):
    def shots():
        yield shot()
        raise AssertionError("the second was asked for before the first was painted")

    with engine.session() as paint:
        assert next(paint.many(shots(), batch=1)).shape == (64, 64, 3)


def test_a_former_name_is_told_once_however_many_shots_use_it(engine, caplog):
    from facechain import params

    params._notice.cache_clear()
    for _ in range(3):
        assert engine.resolve(STYLE, {"likeness": 0.2}).face_guidance_scale == 0.2
    assert [record.message.split()[2] for record in caplog.records] == ["likeness"]
