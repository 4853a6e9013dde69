"""Every identity engine on small random models: paints, obeys its scale, and leaves no trace."""

import copy
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import identity_kit as kit
import numpy as np
import pytest
import tiny_identity as tiny
import torch
from identity_kit import ENGINES, assert_untouched, marks, plain

from facechain.engines.faceid import FaceIdEngine
from facechain.engines.instantid import _points
from facechain.errors import Cancelled, EngineError, PackError, PackMissing, PersonError
from facechain.types import Part, Parts, Photo


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return kit.bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module", params=ENGINES)
def ready(request, bases, tmp_path_factory):
    """(engine, the pipeline it paints with, options that turn the face off, options that are quick)."""
    family, make = ENGINES[request.param]
    engine = make(tmp_path_factory.mktemp("files"), lambda: bases[family])
    return engine, bases[family], kit.off(request.param), kit.quick(request.param)


def test_paints_the_person_and_the_same_again(ready):
    engine, _, _, quick = ready
    ada, ben = (engine.learn(tiny.person(tiny.crop(n), tiny.crop(n + 1), name=str(n))) for n in (1, 11))
    with engine.sitting(ada, tiny.STYLE) as paint:
        first, again, other = (paint(tiny.shot(seed, **quick)) for seed in (7, 7, 8))
    with engine.sitting(ben, tiny.STYLE) as paint:
        after = paint(tiny.shot(**quick))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, after), "another person must give another picture"
    with engine.sitting(ada, tiny.STYLE) as paint:
        assert np.array_equal(first, paint(tiny.shot(**quick))), "the person before must not matter"


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_scale_zero_is_the_base_bit_for_bit(ready, guidance):
    engine, pipe, off, _ = ready
    if engine.card.name == "arc2face":
        pytest.skip("has a text encoder of its own; see below")
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        on, silent = (paint(tiny.shot(guidance=guidance, **more)) for more in ({}, off))
    assert np.array_equal(silent, plain(pipe, tiny.shot(guidance=guidance)))
    assert not np.array_equal(on, silent)


def test_nothing_stays_after_a_sitting_or_an_exception(ready):
    engine, pipe, _, quick = ready
    identity, before = engine.learn(tiny.person()), marks(pipe)
    with engine.sitting(identity, tiny.STYLE) as paint:
        paint(tiny.shot(**quick))
    assert_untouched(pipe, before)

    steps: list[int] = []

    def stop(*_):
        steps.append(1)
        if len(steps) == 2:
            raise Cancelled

    hook = pipe.unet.conv_out.register_forward_pre_hook(stop)
    with pytest.raises(Cancelled), engine.sitting(identity, tiny.STYLE) as paint:
        paint(tiny.shot(**{**quick, "steps": 4}))
    hook.remove()
    assert len(steps) == 2, "it has to break off in the middle"
    assert_untouched(pipe, before)


def test_too_few_photos_cancelling_and_unknown_settings(ready):
    engine, _, _, _ = ready
    nobody = tiny.person()
    object.__setattr__(nobody, "crops", ())
    with pytest.raises(PersonError, match="no photo"):
        engine.learn(nobody)

    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        engine.learn(tiny.person(), stop)
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint, pytest.raises(EngineError, match="scael"):
        paint(tiny.shot(scael=1.0))


def test_equal_input_equal_digest(ready):
    engine, *_ = ready
    one, two = engine.learn(tiny.person()), engine.learn(tiny.person())
    assert one.digest == two.digest != engine.learn(tiny.person(tiny.crop(5))).digest


def test_a_reader_for_another_method_is_refused(ready):
    engine, *_ = ready
    if getattr(engine, "_reader", None) is None or engine.card.name == "photomaker":
        pytest.skip("looks at pixels only, or in one of its versions")
    kept, engine._reader = engine._reader, tiny.FakeReader("sface_2021dec", True)
    try:
        with pytest.raises(EngineError, match="trained on faces read by"):
            engine.learn(tiny.person())
        engine._reader = tiny.FakeReader(kept.recogniser, not kept.unit_norm)
        with pytest.raises(EngineError, match="needs"):
            engine.learn(tiny.person())
    finally:
        engine._reader = kept


@pytest.fixture(scope="module")
def twins(bases):
    """Two bases of each family with the same weights."""
    return {family: (copy.deepcopy(pipe), copy.deepcopy(pipe)) for family, pipe in bases.items()}


@pytest.mark.parametrize("name", ENGINES)
def test_two_people_side_by_side_give_the_pixels_of_each_alone(name, twins, tmp_path):
    family, make = ENGINES[name]
    own = threading.local()
    own.base = twins[family][0]
    engine = make(tmp_path, lambda: own.base)  # one engine for both threads, as a server has
    people = [engine.learn(tiny.person(tiny.crop(n), name=str(n))) for n in (1, 11)]

    def sit(number):
        own.base = twins[family][number]
        with engine.sitting(people[number], tiny.STYLE) as paint:
            return [paint(tiny.shot(seed, **kit.quick(name))) for seed in (1, 2)]

    alone = [sit(0), sit(1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(sit, (0, 1)))
    assert not np.array_equal(alone[0], alone[1])
    assert np.array_equal(alone, together)


@pytest.mark.parametrize("name", ["faceid", "photomaker-v1"])
def test_sittings_on_one_base_wait_for_each_other(name, bases, tmp_path):
    family, make = ENGINES[name]
    engine = make(tmp_path, lambda: bases[family])
    people = [engine.learn(tiny.person(tiny.crop(n), name=str(n))) for n in (1, 11)]
    inside, most = [], []

    def sit(identity):
        with engine.sitting(identity, tiny.STYLE) as paint:
            made = [paint(tiny.shot(1, **kit.quick(name)))]  # from here on the base is this session's
            inside.append(identity)
            most.append(len(inside))
            made.append(paint(tiny.shot(2, **kit.quick(name))))
            inside.remove(identity)
        return made

    alone = [sit(person) for person in people]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(sit, people))
    assert max(most) == 1
    assert np.array_equal(alone, together)
    with engine.sitting(people[0], tiny.STYLE) as first, engine.sitting(people[1], tiny.STYLE) as second:
        first(tiny.shot())
        with pytest.raises(EngineError, match="still open here"):
            second(tiny.shot())
    assert np.array_equal(sit(people[0]), alone[0]), "after a refusal the next one has its turn"


# ── each engine's own ────────────────────────────────────────────────────────────────────────────────────────────────


def test_instantid_pose_extra_controls_and_face_only(bases, tmp_path):
    from diffusers import ControlNetModel

    engine = kit.instantid(tmp_path, lambda: bases["sdxl"])
    folder = tiny.identitynet(tmp_path / "c", seed=5)
    engine.context = kit.context(lambda: bases["sdxl"], lambda: ControlNetModel.from_pretrained(folder))
    left = [[0.1, 0.2], [0.3, 0.2], [0.2, 0.3], [0.1, 0.4], [0.3, 0.4]]
    right = [[x + 0.5, y] for x, y in left]
    edges = Photo(id="e", name="e.png", pixels=np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        pictures = [
            paint(tiny.shot()),
            paint(tiny.shot(pose=left)),
            paint(tiny.shot(pose=right)),
            paint(tiny.shot(pose=right, face_only=True)),
            paint(tiny.shot(controls={"canny": edges})),
        ]
        assert np.array_equal(pictures[0], paint(tiny.shot())), "face_only must not outlive its shot"
        alone = paint(tiny.shot(controls={"canny": edges}, control_scales={"canny": 0.0}))
        with pytest.raises(EngineError, match="canny is 'x', not a picture"):
            paint(tiny.shot(controls={"canny": "x"}))
        with pytest.raises(EngineError, match="five points"):
            paint(tiny.shot(pose=[[0, 0]]))
    for a in range(5):
        assert all(not np.array_equal(pictures[a], pictures[b]) for b in range(a))
    assert np.abs(alone.astype(int) - pictures[0]).max() <= 1


def test_without_a_pose_the_head_is_as_large_as_the_base_knows_heads():
    best = tiny.person().crops[0]
    mask = np.zeros(best.pixels.shape[:2], np.float32)
    mask[10:20, 4:12] = 1
    points = np.array([[5, 12], [10, 12], [7.5, 14.5], [5, 17], [10, 17]], np.float32)
    best = replace(best, head_mask=mask, face=replace(best.face, points_px=points))
    placed = _points((), best, tiny.shot(), head_share=0.8)
    size = np.array([tiny.shot().width_px, tiny.shot().height_px])
    assert np.allclose(placed[2], size / 2), "the middle of this head is its nose"
    assert placed[1, 0] - placed[0, 0] == pytest.approx(5 * 0.8 * size[1] / 10)
    assert np.array_equal(
        _points((), replace(best, head_mask=0 * mask), tiny.shot(), 0.8), _points((), best, tiny.shot())
    )


def test_photomaker_rules_for_the_trigger(bases, tmp_path):
    engine = kit.photomaker("v1")(tmp_path, lambda: bases["sdxl"])
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:

        def at(prompt, **more):
            return paint(tiny.shot(prompt=prompt, **{"merge_after": 0, "steps": 3, **more}))

        words = at("photo of a man img in the rain")
        assert np.array_equal(words, at("photo of a man tok in the rain", trigger="tok")), "any trigger will do"
        assert not np.array_equal(words, at("photo of a woman img in the rain"))
        assert not np.array_equal(words, at("photo of a man img in the rain", merge_after=1))
        with pytest.raises(EngineError, match="stands 2 times"):
            at("a man img and a woman img")
        with pytest.raises(EngineError, match="No class word"):
            at("img in the rain")
        long = at("a man img " + "rain " * 80)
        assert not np.array_equal(long, at("a man img " + "rain " * 80 + "red suit")), "words beyond 77 tokens count"
        late = at("rain " * 80 + "a man img")
        assert not np.array_equal(late, at("rain " * 80 + "a man")), "and so does a class word there"
        assert not np.array_equal(words, at("photo of a man img in the (rain:1.5)")), "weights count too"


def test_pulid_without_its_tower_says_what_is_missing(bases, tmp_path):
    engine = kit.pulid("pulid_v11")(tmp_path, lambda: bases["sdxl"])
    engine._tower = tmp_path / "nowhere.pt"
    with pytest.raises(PackMissing, match="nowhere"), engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        paint(tiny.shot())


class Dressed:
    """A parser that finds something worn over the whole crop, as a hat, glasses and earrings are."""

    def parts(self, pixels, face=None):
        return Parts(masks={part: np.full(pixels.shape[:2], part is Part.OTHER, np.float32) for part in Part})


def test_pulid_sees_glasses_and_neither_hat_nor_earrings():
    from facechain.engines.identity.pulid_tower import head_picture

    crop = tiny.crop(1, np.full((128, 128, 3), 100, np.uint8))
    bare, dressed = head_picture(crop), head_picture(crop, Dressed().parts(crop.pixels))
    eyes, forehead, lobe = (240, 256), (130, 256), (400, 130)
    assert [bare[at][0] for at in (eyes, forehead, lobe)] == [100, 100, 100]
    assert [dressed[at][0] for at in (eyes, forehead, lobe)] == [100, 255, 255]


def test_pulid_asks_the_parser_what_is_worn(bases, tmp_path):
    engine, painted = kit.pulid("pulid_v1")(tmp_path, lambda: bases["sdxl"]), []
    for engine._parser in (None, Dressed()):
        with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
            painted.append(paint(tiny.shot(scale=4.0)))
    assert not np.array_equal(*painted)


def test_pulid_presets_differ_and_unknown_ones_are_refused(bases, tmp_path):
    engine = kit.pulid("pulid_v1")(tmp_path, lambda: bases["sdxl"])
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        made = [paint(tiny.shot(preset=name, scale=4.0)) for name in ("fidelity", "style", "plain")]
        assert not np.array_equal(made[0], made[1])
        assert not np.array_equal(made[1], made[2])
        with pytest.raises(EngineError, match="preset is 'bold'"):
            paint(tiny.shot(preset="bold"))


@pytest.mark.parametrize(
    ("structure", "steps", "given"),
    [
        ("pulid_v1", 4, {"timestep_spacing": "trailing", "use_karras_sigmas": False}),
        ("pulid_v11", 25, {"use_karras_sigmas": True}),
    ],
)
def test_pulid_samples_as_its_version_was_published(structure, steps, given, bases, tmp_path):
    engine, calls = kit.pulid(structure)(tmp_path, lambda: bases["sdxl"]), []
    shot = tiny.shot()
    object.__setattr__(shot, "options", {})
    hook = bases["sdxl"].unet.register_forward_hook(lambda *_: calls.append(bases["sdxl"].scheduler))
    try:
        with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
            paint(shot)
    finally:
        hook.remove()
    assert len(calls) == steps
    assert type(calls[0]).__name__ == "DPMSolverMultistepScheduler"
    assert given.items() <= dict(calls[0].config).items()


def test_plus_without_clip_is_refused(bases, tmp_path):
    _, make = ENGINES["plus"]
    engine = make(tmp_path, lambda: bases["sd15"])
    engine._clip = None
    with pytest.raises(EngineError, match="CLIP"), engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        paint(tiny.shot())


def test_an_image_encoder_that_is_another_or_incomplete_is_refused(bases, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    engine = ENGINES["plus"][1](tmp_path, lambda: bases["sd15"])
    known, weights = engine.learn(tiny.person()), tmp_path / "clip" / "model.safetensors"
    whole = weights.read_bytes()

    def refused(error, match):
        with pytest.raises(error, match=match), engine.sitting(known, tiny.STYLE) as paint:
            paint(tiny.shot())

    flat = load_file(weights)
    key = next(key for key in flat if key.endswith("layers.1.mlp.fc1.weight"))
    save_file({k: v for k, v in flat.items() if k != key}, weights, metadata={"format": "pt"})
    refused(PackError, r"image encoder in clip lacks tensors: .*layers\.1\.mlp\.fc1\.weight")
    weights.write_bytes(whole[: len(whole) // 2])
    refused(PackError, r"model\.safetensors is cut short: [\d,]+ of [\d,]+ bytes")
    small = CLIPVisionConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    CLIPVisionModelWithProjection(small).save_pretrained(tmp_path / "clip")
    refused(EngineError, r"an image encoder 64 wide \(CLIP ViT-H/14\), but that in clip is 32 wide")
    engine._clip = tmp_path / "nowhere"
    refused(PackMissing, "not in nowhere")


def test_an_adapter_for_another_base_is_refused_before_painting(bases, tmp_path):
    file = tiny.save(tmp_path / "ip-adapter-faceid_sdxl.bin", tiny.weights("faceid", tiny.layout(bases["sdxl"])))
    engine = FaceIdEngine(context=kit.context(lambda: bases["sd15"]), checkpoint=file, reader=kit.UNIT)
    before = marks(bases["sd15"])
    with pytest.raises(EngineError, match="wide"), engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        paint(tiny.shot())
    assert_untouched(bases["sd15"], before)


def test_identitynet_that_does_not_fit_is_refused(bases, tmp_path):
    engine = kit.instantid(tmp_path, lambda: bases["sdxl"])
    weights = tmp_path / "ControlNetModel" / "diffusion_pytorch_model.safetensors"
    known, config = engine.learn(tiny.person()), weights.with_name("config.json")
    whole, said = weights.read_bytes(), config.read_text()

    def refused(error, match):
        with pytest.raises(error, match=match), engine.sitting(known, tiny.STYLE) as paint:
            paint(tiny.shot())

    weights.write_bytes(whole[:-1000])
    refused(PackError, "is cut short")
    weights.write_bytes(whole)
    config.write_text(said.replace('"cross_attention_dim": 96', '"cross_attention_dim": 64'))
    refused(EngineError, "tokens 64 wide, but this base's are 96 wide")
    config.write_text(said[:40])
    refused(PackError, r"ControlNetModel/config\.json is not JSON")
    config.unlink()
    refused(PackMissing, r"lacks config\.json")


def test_sizes_that_diffusion_cannot_paint_are_refused(bases, tmp_path):
    engine = ENGINES["portrait"][1](tmp_path, lambda: bases["sd15"])
    shot = tiny.shot()
    object.__setattr__(shot, "width_px", 61)
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint, pytest.raises(EngineError, match="61×64"):
        paint(shot)


@pytest.fixture
def arc2face(bases, tmp_path):
    return bases["arc2face"], kit.arc2face(tmp_path, lambda: bases["arc2face"])


def test_arc2face_paints_the_code_and_leaves_the_base_alone(arc2face):
    base, engine = arc2face
    before = marks(base)
    ada, ben = (engine.learn(tiny.person(tiny.crop(n), name=str(n))) for n in (1, 11))
    made = []
    for identity in (ada, ben, ada):
        with engine.sitting(identity, tiny.STYLE) as paint:
            made.append((paint(tiny.shot()), paint(tiny.shot(scale=0.0)), paint(tiny.shot(prompt="red suit"))))
    assert_untouched(base, before)
    assert not np.array_equal(made[0][0], made[1][0])
    assert np.array_equal(made[0][0], made[2][0])
    assert np.array_equal(made[0][1], made[1][1]), "at scale 0 nobody is painted"
    assert np.array_equal(made[0][0], made[0][2]), "there is no free prompt"


def test_arc2face_at_scale_zero_is_its_own_base_on_the_plain_sentence(arc2face):
    from facechain.engines.identity.arc2face_net import SENTENCE, with_weights
    from facechain.engines.identity.checkpoint import open_checkpoint
    from facechain.engines.inpaint.repaint import sibling

    base, engine = arc2face
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        nobody = paint(tiny.shot(scale=0.0))
    file = open_checkpoint(engine._path, kinds=("arc2face",), layout=None)
    own = sibling(base, "", text_encoder=with_weights(base.text_encoder, file.under("text_model.")))
    shot = tiny.shot(prompt=SENTENCE)
    object.__setattr__(shot, "negative", "")
    assert np.array_equal(nobody, plain(own, shot))


def test_cards_are_readable_without_torch():
    code = (
        "import sys\n"
        "from facechain.engines import faceid, instantid, arc2face, photomaker, pulid, fact\n"
        "cards = [m.CARD for m in (faceid, instantid, arc2face, photomaker, pulid, fact)]\n"
        "assert all(card.min_photos == 1 and card.learns == 'instantly' and card.packs for card in cards)\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arc2face_brings_its_own_unet(arc2face, tmp_path):
    from safetensors.torch import load_file, save_file

    base, engine = arc2face
    other = tiny.sd15(tmp_path, context=576, seed=3)
    other.unet.save_pretrained(tmp_path / "arc2face")
    before = marks(base)
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        first = paint(tiny.shot())
    engine._unet = tmp_path / "arc2face"
    with engine.sitting(engine.learn(tiny.person()), tiny.STYLE) as paint:
        assert not np.array_equal(first, paint(tiny.shot()))
    assert_untouched(base, before)
    known, weights = engine.learn(tiny.person()), engine._unet / "diffusion_pytorch_model.safetensors"
    flat = load_file(weights)
    save_file({key: value for key, value in flat.items() if key != "conv_out.bias"}, weights)
    with pytest.raises(PackError, match=r"conv_out\.bias"), engine.sitting(known, tiny.STYLE) as paint:
        paint(tiny.shot())  # diffusers would fill it with random numbers
    engine._unet = tmp_path / "nowhere"
    with pytest.raises(PackMissing, match="Arc2Face's UNet"), engine.sitting(known, tiny.STYLE) as paint:
        paint(tiny.shot())
    assert_untouched(base, before)


def test_every_engine_opens_from_its_packs(tmp_path):
    """Cards name packs that exist, with the files engines ask for; packs and recogniser agree with the method."""
    from facechain.engines.identity.open import IDENTITY, Shelf
    from facechain.packs.manifest import read_packs
    from facechain.vision.readers import READERS

    packs = read_packs(Path(__file__).resolve().parent.parent / "configs" / "packs")
    asked = []

    def pack(id, file):
        assert packs[id].file(file), f"{id} has no {file}"
        asked.append(id)
        return tmp_path / id / file

    def reader(name):
        assert name in READERS
        asked.append(name.removesuffix("_raw"))
        return tiny.FakeReader(name, True)

    for name, (card, open_engine) in IDENTITY.items():
        asked.clear()
        shelf = {"context": kit.context(lambda: None), "pack": pack, "reader": reader}
        open_engine(Shelf(**shelf, parser=lambda: asked.append("parser")))
        assert card.name == name
        assert set(asked) == set(card.packs), name
