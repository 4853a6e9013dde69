"""Same shot, same pixels; samplers, ControlNets, fast modes."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

from facechain.engines.diffusion.base import BaseRef, load
from facechain.engines.diffusion.controls import Control
from facechain.engines.diffusion.guides import canny
from facechain.engines.diffusion.lead import Lead
from facechain.engines.diffusion.painter import Painter, Settings, settings
from facechain.engines.diffusion.samplers import SAMPLERS
from facechain.errors import EngineError
from facechain.types import Shot

torch = pytest.importorskip("torch")

FAST = Settings(steps=2, sampler="euler_a")


def shot(index=0, **more) -> Shot:
    given = {"seed": 100 + index, "prompt": "a (red:1.3) coat", "negative": "blurry", "width_px": 64, "height_px": 64}
    return Shot(index=index, options={}, **{**given, **more})


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request):
    torch.set_num_threads(1)
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pipe(folder):
    return load(BaseRef(path=folder))


def test_same_shot_same_pixels_whatever_is_painted_beside_it(pipe):
    painter = Painter(pipe)
    shots = [shot(0), shot(1, prompt="a blue hat"), shot(2), shot(3, width_px=96), shot(4, prompt="hat " * 90)]
    alone = [painter.paint(one, FAST) for one in shots]
    assert np.abs(alone[0].astype(int) - alone[2]).max() > 20
    for batch in (1, 2, 5):
        together = painter.paint_many([(one, FAST) for one in shots], batch=batch)
        for one, other in zip(alone, together, strict=True):
            assert np.abs(one.astype(int) - other).max() <= 1  # sums of other shapes are rounded differently
    np.testing.assert_array_equal(painter.paint(shots[0], FAST), alone[0])
    np.testing.assert_array_equal(Painter(pipe).paint(shots[0], FAST), alone[0])


def test_a_wished_likeness_leads_alone_and_in_a_batch_and_nothing_of_it_stays(pipe):
    class Anywhere(Lead):
        def uphill(self, vae, clean):
            return torch.ones_like(clean)

    lead = Anywhere(face=np.zeros(1, np.float32), reader=None, network=None)
    painter, wished = Painter(pipe, lead=lambda: lead), replace(FAST, likeness=0.5)
    plain, led = painter.paint(shot(0), FAST), painter.paint(shot(0), wished)
    assert np.abs(plain.astype(int) - led).max() > 5
    together = painter.paint_many([(shot(0), wished), (shot(1), FAST), (shot(0), FAST)], batch=3)
    assert np.abs(together[0].astype(int) - led).max() <= 1
    assert np.abs(together[2].astype(int) - plain).max() <= 1, "equal but for the likeness, so not painted together"


def test_batches_fit_the_memory_that_is_left(pipe, monkeypatch):
    """On a GPU; how much one holds is told here instead of by one."""
    painter = Painter(pipe)
    assert painter.batch_that_fits(512, 512) == 1, "on a CPU more are no faster"
    monkeypatch.setattr(type(pipe), "_execution_device", torch.device("cuda"))

    def fitting(gib, side):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(gib * 2**30), 0))
        return painter.batch_that_fits(side, side)

    assert fitting(0.01, 512) == 1
    assert 1 < fitting(0.5, 512) < 16
    assert fitting(0.5, 1024) < fitting(0.5, 512)
    assert fitting(500, 512) == 16


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_paints(pipe, sampler):
    if type(pipe).__name__ == "StableDiffusionXLPipeline" and sampler not in ("lcm", "euler_a_trailing", "pndm"):
        pytest.skip("one family tries them all")
    painter = Painter(pipe)
    one = painter.paint(shot(), Settings(sampler=sampler, steps=3))
    assert one.shape == (64, 64, 3)
    assert one.std() > 5
    painter.paint(shot(), FAST)
    np.testing.assert_array_equal(painter.paint(shot(), Settings(sampler=sampler, steps=3)), one)


def test_guidance_zero_ignores_the_negative(pipe):
    painter = Painter(pipe)
    turbo = Settings(sampler="euler_a_trailing", steps=1, guidance=0.0)
    np.testing.assert_array_equal(
        painter.paint(shot(negative=""), turbo), painter.paint(shot(negative="green hat"), turbo)
    )


def test_several_controlnets_at_once(folder, pipe, tmp_path):
    nets = {kind: tiny.controlnet(tmp_path / kind, folder, seed=i) for i, kind in enumerate(("canny", "depth"))}
    painter = Painter(pipe, nets=nets)
    plain = painter.paint(shot(), FAST)
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[20:60, 20:60] = 255
    edges, depth = Control(kind="canny", picture=canny(picture)), Control(kind="depth", picture=picture, scale=0.7)
    assert edges.picture.max() == 255
    one = painter.paint(shot(), replace(FAST, controls=(edges,)))
    both = painter.paint(shot(), replace(FAST, controls=(edges, depth)))
    assert np.abs(plain.astype(int) - one).max() > 3
    assert np.abs(both.astype(int) - one).max() > 3
    together = painter.paint_many([(shot(i), replace(FAST, controls=(edges, depth))) for i in range(2)], batch=2)
    assert np.abs(both.astype(int) - together[0]).max() <= 1
    np.testing.assert_array_equal(painter.paint(shot(), FAST), plain)
    with pytest.raises(EngineError, match="openpose"):
        painter.paint(shot(), replace(FAST, controls=(Control(kind="openpose", picture=picture),)))


def test_what_cannot_be_painted_is_said(pipe):
    with pytest.raises(EngineError, match="multiples of 8"):
        Painter(pipe).paint(shot(width_px=65), FAST)
    with pytest.raises(EngineError, match="Known: ddim"):
        Painter(pipe).paint(shot(), Settings(sampler="magic"))
    with pytest.raises(EngineError, match="'step'"):
        settings(FAST, {"step": 3})
    with pytest.raises(EngineError, match="steps is 0"):
        settings(FAST, {"steps": 0})
    assert settings(FAST, {"steps": 7, "identity_scale": 1}, also=("identity_scale",)).steps == 7


def test_flash_attention_falls_back(folder, pipe):
    from facechain.engines.diffusion.setup import Setup

    plain = Painter(pipe).paint(shot(), FAST)
    flash = Painter(pipe, setup=Setup(attention="flash")).paint(shot(), FAST)
    assert np.abs(plain.astype(int) - flash).max() <= 1


def test_safety_checker_blacks_out(tmp_path):
    pipe = load(BaseRef(path=tiny.sd15(tmp_path / "safe", safety=True)))
    painter = Painter(pipe)
    thresholds = pipe.safety_checker.concept_embeds_weights.data
    thresholds.fill_(2.0)
    assert painter.paint(shot(), FAST).max() > 0
    thresholds.fill_(-2.0)  # now everything is near a forbidden idea
    assert painter.paint(shot(), FAST).max() == 0
