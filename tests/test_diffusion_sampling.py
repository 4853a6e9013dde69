"""Same shot, same pixels; samplers, ControlNets, fast modes."""

import numpy as np
import pytest
import tiny

from facechain.engines.diffusion.base import BaseRef, load
from facechain.engines.diffusion.guides import canny
from facechain.engines.diffusion.lead import Lead
from facechain.engines.diffusion.model_cache import ModelCache
from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.samplers import SAMPLERS
from facechain.engines.diffusion.sampling import Conditioning, Item, batch_that_fits, sample_all, text_to_image
from facechain.errors import EngineError
from facechain.types import Photo, Shot

torch = pytest.importorskip("torch")

FAST = SamplingParams(steps=2, sampler="euler_a")


def shot(index=0, **more) -> Shot:
    given = {"seed": 100 + index, "prompt": "a (red:1.3) coat", "negative": "blurry", "width_px": 64, "height_px": 64}
    return Shot(index=index, **{"options": {}, **given, **more})


def one(pipe, of=None, params=FAST):
    (made,) = text_to_image(pipe, [of or shot()], params)
    return made


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request):
    torch.set_num_threads(1)
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pipe(folder):
    return load(BaseRef(path=folder))


def test_same_shot_same_pixels_whatever_is_painted_beside_it(pipe):
    shots = [shot(0), shot(1, prompt="a blue hat"), shot(2), shot(3, width_px=96), shot(4, prompt="hat " * 90)]
    alone = [one(pipe, each) for each in shots]
    assert np.abs(alone[0].astype(int) - alone[2]).max() > 20
    for batch in (1, 2, 5):
        together = text_to_image(pipe, shots, FAST, batch=batch)
        for first, other in zip(alone, together, strict=True):
            assert np.abs(first.astype(int) - other).max() <= 1  # sums of other shapes are rounded differently
    np.testing.assert_array_equal(one(pipe, shots[0]), alone[0])


def items(pipe, *pairs):
    from facechain.engines.diffusion.words import Encoder

    encode = Encoder(pipe).encode
    return [
        Item(
            shot=each,
            params=params,
            conditioning=Conditioning(pipe=pipe, inputs=encode(each.prompt, each.negative).arguments()),
        )
        for each, params in pairs
    ]


def test_face_guidance_leads_alone_and_in_a_batch_and_nothing_of_it_stays(pipe):
    class Anywhere(Lead):
        def uphill(self, vae, clean):
            return torch.ones_like(clean)

    lead = Anywhere(face=np.zeros(1, np.float32), reader=None, network=None)
    guided_params = FAST.model_copy(update={"face_guidance_scale": 0.5})

    def sampled(*pairs):
        return sample_all(items(pipe, *pairs), lambda: lead)

    ((plain,), (guided,)) = sampled((shot(0), FAST)), sampled((shot(0), guided_params))
    assert np.abs(plain.astype(int) - guided).max() > 5
    together = sampled((shot(0), guided_params), (shot(1), FAST), (shot(0), FAST))
    assert np.abs(together[0].astype(int) - guided).max() <= 1
    assert np.abs(together[2].astype(int) - plain).max() <= 1, "equal but for the guidance, so not painted together"


def test_batches_fit_the_memory_that_is_left(pipe, monkeypatch):
    """On a GPU; how much one holds is told here instead of by one."""
    assert batch_that_fits(pipe, 512, 512) == 1, "on a CPU more are no faster"
    monkeypatch.setattr(type(pipe), "_execution_device", torch.device("cuda"))

    def fitting(gib, side):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(gib * 2**30), 0))
        return batch_that_fits(pipe, side, side)

    assert fitting(0.01, 512) == 1
    assert 1 < fitting(0.5, 512) < 16
    assert fitting(0.5, 1024) < fitting(0.5, 512)
    assert fitting(500, 512) == 16


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_paints(pipe, sampler):
    if type(pipe).__name__ == "StableDiffusionXLPipeline" and sampler not in ("lcm", "euler_a_trailing", "pndm"):
        pytest.skip("one family tries them all")
    params = SamplingParams(sampler=sampler, steps=3)
    first = one(pipe, params=params)
    assert first.shape == (64, 64, 3)
    assert first.std() > 5
    one(pipe)
    np.testing.assert_array_equal(one(pipe, params=params), first)


def test_guidance_zero_ignores_the_negative(pipe):
    turbo = SamplingParams(sampler="euler_a_trailing", steps=1, guidance=0.0)
    np.testing.assert_array_equal(one(pipe, shot(negative=""), turbo), one(pipe, shot(negative="green hat"), turbo))


def test_several_controlnets_at_once(folder, tmp_path):
    from diffusion_kit import Bare, context

    nets = {kind: tiny.controlnet(tmp_path / kind, folder, seed=i) for i, kind in enumerate(("canny", "depth"))}
    engine = Bare(context(folder, controlnet=lambda kind, family, named: nets[kind]))
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[20:60, 20:60] = 255
    edges, depth = (Photo(id=n, name=n, pixels=p) for n, p in (("canny", canny(picture)), ("depth", picture)))
    assert edges.pixels.max() == 255
    both_given = {"controls": {"canny": edges, "depth": depth}, "control_scales": {"depth": 0.7}}
    with engine.session() as paint:
        plain, first, both = (paint(shot(options=o)) for o in ({}, {"controls": {"canny": edges}}, both_given))
        together = list(paint.many([shot(i, options=both_given) for i in range(2)], batch=2))
        np.testing.assert_array_equal(paint(shot()), plain)
    assert np.abs(plain.astype(int) - first).max() > 3
    assert np.abs(both.astype(int) - first).max() > 3
    assert np.abs(both.astype(int) - together[0]).max() <= 1


def test_what_cannot_be_painted_is_said(pipe):
    with pytest.raises(EngineError, match="multiples of 8"):
        one(pipe, shot(width_px=65))
    for wrong, said in (
        ({"sampler": "magic"}, "one of ddim"),
        ({"step": 3}, "'step'. Did you mean 'steps'"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"mask": Photo(id="m", name="m", pixels=np.zeros((8, 8, 3), np.uint8))}, "without an initial image"),
        ({"init_image": "me.png"}, "init_image is 'me.png', not a picture"),
    ):
        with pytest.raises(EngineError, match=said):
            SamplingParams.parse(wrong, "The engine")
    with pytest.raises(EngineError, match="The engine cannot use offload: it is small"):
        SamplingParams.parse({"offload": "model"}, "The engine", {"offload": "it is small"})
    assert SamplingParams.parse({"likeness": 0.2}, "The engine").face_guidance_scale == 0.2, "former names still work"


def test_flash_attention_falls_back(pipe):
    flash = one(pipe, params=FAST.model_copy(update={"attention": "flash"}))
    assert np.abs(one(pipe).astype(int) - flash).max() <= 1


def test_safety_checker_blacks_out(tmp_path):
    pipe = load(BaseRef(path=tiny.sd15(tmp_path / "safe", safety=True)))
    thresholds = pipe.safety_checker.concept_embeds_weights.data
    thresholds.fill_(2.0)
    assert one(pipe).max() > 0
    thresholds.fill_(-2.0)  # now everything is near a forbidden idea
    assert one(pipe).max() == 0


def test_two_bases_share_a_budget_and_one_in_use_stays(tmp_path):
    from facechain.engines.diffusion.model_cache import exclusive, model_bytes

    one_base, other_base, third = (BaseRef(path=tiny.sd15(tmp_path / str(n), seed=n)) for n in range(3))
    size = model_bytes(load(one_base))
    cache = ModelCache(lambda device: int(2.5 * size))
    first = cache.pipeline(one_base)
    second = cache.pipeline(other_base)
    assert cache.pipeline(one_base) is first, "opened once"
    cache.pipeline(third)
    assert cache.held_bytes == 2 * size
    assert cache.pipeline(one_base) is first, "used last but one, so it stayed"
    with exclusive(first):
        assert cache.pipeline(other_base) is not second
        cache.clear()
        assert cache.pipeline(one_base) is first, "in use"
    cache.clear()
    assert cache.held_bytes == 0
