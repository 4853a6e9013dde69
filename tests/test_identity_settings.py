"""What a shot may say to every one-photo engine: start, mask, strength, average; and FACT's until."""

import dataclasses

import identity_kit as kit
import numpy as np
import pytest
import tiny_identity as tiny
import torch
from identity_kit import ENGINES

from facechain.errors import EngineError
from facechain.types import Embedding, Photo


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return kit.bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module", params=ENGINES)
def ready(request, bases, tmp_path_factory):
    """(engine, options that are quick)."""
    family, make = ENGINES[request.param]
    return make(tmp_path_factory.mktemp("files"), lambda: bases[family]), kit.quick(request.param)


def photo(pixels):
    return Photo(id=str(pixels.sum()), name="p.png", pixels=pixels.astype(np.uint8))


# Larger than the shot and of another shape: its middle is taken.
START = photo(np.random.default_rng(3).integers(0, 255, (16, 24, 3)).repeat(8, 0).repeat(8, 1))


def apart(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


def test_a_start_picture_is_painted_over_as_far_as_strength_says(ready):
    engine, quick = ready
    begun = {"start": START, "steps": 5, "merge_after": 0} if "merge_after" in quick else {"start": START, "steps": 5}
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        free = paint(tiny.shot(**{**quick, "steps": 5}))
        little, again, anew = (paint(tiny.shot(**begun, strength=s)) for s in (0.2, 0.2, 1.0))
        others = [paint(tiny.shot(8, **begun, strength=s)) for s in (0.2, 1.0)]
        for wrong in (0.0, 1.5):
            with pytest.raises(EngineError, match="strength"):
                paint(tiny.shot(**begun, strength=wrong))
        with pytest.raises(EngineError, match="not a picture"):
            paint(tiny.shot(**{**begun, "start": "me.png"}))
        assert np.array_equal(free, paint(tiny.shot(**{**quick, "steps": 5}))), "a start must not outlive its shot"
    assert np.array_equal(little, again)
    assert apart(little, others[0]) < apart(anew, others[1]), "the more of the picture stays, the less the seed counts"
    with engine.sitting(engine.learn(tiny.person(tiny.crop(11), name="ben")), tiny.STYLE) as paint:
        assert not np.array_equal(anew, paint(tiny.shot(**begun, strength=1.0))), "the face must count there too"


def test_outside_the_mask_not_a_bit_changes(ready):
    engine, quick = ready
    start = photo(START.pixels[:64, :64])
    white = np.zeros((64, 64, 3))
    white[20:44, 12:50] = 255
    inside = white[..., 0] > 0
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        made = paint(tiny.shot(**quick, start=start, mask=photo(white), strength=0.9))
        with pytest.raises(EngineError, match="without an initial image"):
            paint(tiny.shot(**quick, mask=photo(white)))
    assert np.array_equal(made[~inside], start.pixels[~inside])
    assert (made[inside] != start.pixels[inside]).mean() > 0.5


class Alike(tiny.FakeReader):
    """Photos of one person are nearly alike; those of the stranger, marked by their first pixel, are not."""

    def embed(self, pixels, faces):
        who = np.random.default_rng(int(pixels[0, 0, 0] == 255)).normal(size=512)
        own = np.random.default_rng(int(pixels.sum())).normal(size=512)
        vector = (who + 0.3 * own).astype(np.float32)
        vector *= (1 if self.unit_norm else 22) / np.linalg.norm(vector)
        return tuple(Embedding(vector=vector, recogniser=self.recogniser, unit_norm=self.unit_norm) for _ in faces)


def album(*strangers):
    """Four photos of one person, and some of somebody else, as enrolment would hand them over."""
    reader, crops = Alike("enrolment", True), []
    for seed in (1, 2, 3, 4, *strangers):
        crop = tiny.crop(seed, quality=0.5 + 0.05 * seed)
        crop.pixels[0, 0] = 255 if seed in strangers else 0
        (vector,) = reader.embed(crop.pixels, [crop.face])
        crops.append(dataclasses.replace(crop, face=dataclasses.replace(crop.face, embedding=vector)))
    return crops


def test_photos_are_averaged_by_quality_and_without_strangers(ready, monkeypatch):
    engine, quick = ready
    if engine._reader is not None:
        monkeypatch.setattr(engine, "_reader", Alike(engine._reader.recogniser, engine._reader.unit_norm))
    mine = album()

    def painted(crops, **options):
        with engine.sitting(engine.learn(tiny.person(*crops)), tiny.STYLE) as paint:
            return paint(tiny.shot(**quick, **options))

    averaged = painted(mine, average=True)
    assert np.array_equal(averaged, painted(album(8), average=1)), "the best photo is a stranger's: left out"
    # Photos are taken best first, so that adding them up may round otherwise.
    assert apart(averaged, painted(mine[::-1], average=True)) < 0.05
    assert not np.array_equal(averaged, painted(mine[-1:], average=True)), "every photo counts"
    shifted = [dataclasses.replace(crop, quality=0.95 if crop is mine[0] else 0.05) for crop in mine]
    assert not np.array_equal(averaged, painted(shifted, average=True)), "and the better ones more"
    alone = {"most_photos": 1} if engine.card.name in ("fact", "photomaker", "pulid") else {}
    if engine.card.name != "faceid" or "portrait" not in str(engine._path):
        best = painted(mine, average=False, **alone)
        assert apart(best, painted(mine[-1:], average=False, **alone)) < 0.05, "the best photo alone"


def test_fact_turns_its_gates_off_when_told(bases, tmp_path):
    from facechain.engines.identity.fact_net import Gate

    engine = kit.fact(tmp_path, lambda: bases["sd15"])
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        paint(tiny.shot(steps=1))  # the first shot puts the gates in
        (gate,) = [p.gate for p in bases["sd15"].unet.attn_processors.values() if hasattr(p, "gate")][:1]
        assert isinstance(gate, Gate)
        calls: list[int] = []
        hook = gate.register_forward_hook(lambda *_: calls.append(1))
        made = {}
        for until, steps in ((1.0, 4), (0.5, 2), (0.25, 1), (0.0, 0)):
            calls.clear()
            made[until] = paint(tiny.shot(steps=4, until=until))
            assert len(calls) == steps
        hook.remove()
        assert np.array_equal(made[0.0], paint(tiny.shot(steps=4, scale=0.0)))
        assert np.array_equal(made[1.0], paint(tiny.shot(steps=4))), "the next shot has its gates again"
        assert apart(made[0.5], made[1.0]) < apart(made[0.0], made[1.0])
