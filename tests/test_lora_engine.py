"""The LoRA engine's promises, on tiny bases and real photos."""

from dataclasses import replace
from datetime import UTC, datetime

import lora_kit
import numpy as np
import pytest
import tiny

from facechain.engines.diffusion.base import BaseRef
from facechain.engines.diffusion.native import native
from facechain.engines.diffusion.samplers import FastMode
from facechain.engines.diffusion.session import DiffusionContext
from facechain.engines.lora.settings import TrainSettings
from facechain.errors import Cancelled, EngineError, PersonError
from facechain.types import Canvas, Consent, Crop, Embedding, Person, Shot, Style, StyleLora, Tag

torch = pytest.importorskip("torch")

from facechain.engines.lora.engine import LoraEngine, caption, fingerprint, own_phrases  # noqa: E402
from facechain.engines.lora.export import WEBUI  # noqa: E402

STYLE = Style(
    id="plain",
    title="Plain",
    licence="CC0-1.0",
    prompt="photo of {person}, {age}",
    ages={"adult": "red coat", "senior": "blue coat"},
    sampler="euler_a",
    steps=2,
    guidance=5.0,
)


def shot(index=0, **options) -> Shot:
    return Shot(
        index=index, seed=7 + index, prompt=STYLE.prompt, negative="", width_px=64, height_px=64, options=options
    )


@pytest.fixture(scope="module")
def reader(models):
    from facechain.vision import readers

    return readers.READERS["yunet_sface"](lambda pack, file: models / pack / file)


@pytest.fixture(scope="module")
def people(models, reader) -> dict[str, Person]:
    """Real photos of two people."""
    from facechain.photos.read import read

    made = {}
    for name, files in {
        "A": ["obama.jpg", "obama2.jpg", "obama3.jpg"],
        "B": ["biden.jpg", "biden.jpg", "biden.jpg"],
    }.items():
        crops = []
        for file in files:
            pixels = read(models / "demo-photos" / file).pixels
            face = max(reader.read(pixels), key=lambda f: f.width_px)
            yy, xx = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
            left, top, right, bottom = face.box_px
            head = ((xx > left) & (xx < right) & (yy > top) & (yy < bottom)).astype(np.float32)
            crops.append(
                Crop(
                    photo_id=file,
                    photo_name=file,
                    pixels=pixels,
                    face=face,
                    head_mask=head,
                    quality=0.9,
                    tags=(Tag(name="age", value="senior", confidence=0.9),),
                    caption="portrait photo of an elderly person, smiling",
                )
            )
        made[name] = Person(
            name=name,
            crops=tuple(crops),
            held_out=(),
            template=crops[0].face.embedding,
            consent=Consent(who=name, given_by=name, purpose="test", when=datetime(2026, 1, 1, tzinfo=UTC)),
        )
    return made


@pytest.fixture(scope="module", params=["sd15", "sdxl", "file"])
def base(request, tmp_path_factory) -> BaseRef:
    torch.set_num_threads(1)
    if request.param == "file":
        made = request.getfixturevalue("sd15")
        file = tmp_path_factory.mktemp("file") / "base.safetensors"
        return BaseRef(path=tiny.single_file(file, made), layout=made)
    return BaseRef(path=request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def engine(base, reader, tmp_path_factory) -> LoraEngine:
    folder = tmp_path_factory.mktemp("people")
    settings = TrainSettings(**{**lora_kit.SMALL, "steps": 2, "learning_rate": 0.1})
    return LoraEngine(
        context=DiffusionContext(base=lambda: base),
        folder=lambda name: folder / name,
        coach=lambda: reader,
        settings=settings,
        isolated=False,
    )


@pytest.fixture(scope="module")
def identities(engine, people):
    return {name: engine.learn(person) for name, person in people.items()}


def weights_of(engine, base):
    return [value.detach().clone() for value in engine.context.models.pipeline(base).unet.state_dict().values()]


def test_learned_once_then_reused(engine, people, identities):
    events = []
    again = engine.learn(people["A"], lambda *event: events.append(event))
    assert again.digest == identities["A"].digest != identities["B"].digest
    assert events == []
    assert (again.folder / "curve.png").is_file()
    with np.load(again.folder / "examples" / "000.npz") as arrays:
        assert arrays["pixels"].shape[2] == 3
    assert (again.folder / "examples" / "000.txt").read_text() == "portrait photo of ohwx elderly person, smiling"


def test_same_shot_same_pixels_and_nobody_leaks(engine, base, identities):
    before = weights_of(engine, base)
    with engine.sitting(identities["B"], STYLE) as paint:
        alone = paint(shot())
    with engine.sitting(identities["A"], STYLE) as paint:
        first = paint(shot())
        np.testing.assert_array_equal(paint(shot()), first)
        together = list(paint.many([shot(), shot(1)], batch=2))
        assert np.abs(together[0].astype(int) - first).max() <= 1
    with engine.sitting(identities["B"], STYLE) as paint:
        np.testing.assert_array_equal(paint(shot()), alone)
    assert np.abs(first.astype(int) - alone).max() > 3
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(engine, base), strict=True))


def test_a_sitting_that_breaks_leaves_no_trace(engine, base, identities, monkeypatch):
    before = weights_of(engine, base)

    def sit():
        with engine.sitting(identities["A"], STYLE) as paint:
            pipe = engine.context.models.pipeline(base)
            monkeypatch.setattr(pipe.vae, "decode", lambda *a, **k: 1 / 0)
            paint(shot())

    with pytest.raises(ZeroDivisionError):
        sit()
    monkeypatch.undo()
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(engine, base), strict=True))


def test_identity_scale_zero_is_the_base(engine, identities):
    with engine.sitting(identities["A"], STYLE) as paint:
        one, none = paint(shot()), paint(shot(identity_scale=0))
    with engine.sitting(identities["B"], STYLE) as paint:
        np.testing.assert_array_equal(paint(shot(identity_scale=0)), none)
    assert np.abs(one.astype(int) - none).max() > 3


def test_style_weights_and_fast_modes(engine, base, identities, people):
    folder = identities["B"].data.weights.parent
    family = "sdxl" if "sdxl" in str(base.path) else "sd15"
    styled = replace(STYLE, loras=(StyleLora(family=family, pack="look", file=WEBUI, scale=0.5),))
    mode = {"title": "LCM", "licence": "MIT", "sampler": "lcm", "steps": 1, "guidance": 0.0}
    fast = {"lcm": FastMode(id="lcm", **{f"lora_{family}": f"look/{WEBUI}"}, **mode)}
    able = replace(engine, context=replace(engine.context, pack=lambda pack, file: folder / file, fast=fast))
    with able.sitting(identities["A"], STYLE) as paint:
        plain, quick = paint(shot()), paint(shot(fast="lcm"))
    with able.sitting(identities["A"], styled) as paint:
        assert np.abs(paint(shot()).astype(int) - plain).max() > 0
    assert np.abs(quick.astype(int) - plain).max() > 3


def test_every_named_file_is_added(engine, identities):
    file = identities["B"].data.weights
    with engine.sitting(identities["A"], STYLE) as paint:
        plain, once = paint(shot()), paint(shot(lora=f"{file}:2"))
        np.testing.assert_array_equal(paint(shot(lora=[str(file), f"{file}:1.0"])), once)
        assert np.abs(once.astype(int) - plain).max() > 0
        np.testing.assert_array_equal(paint(shot(lora=[f"{file}:1", f"{file}:-1"])), plain)
        for wrong in ("nan", "inf", "-inf"):
            with pytest.raises(EngineError, match="strength"):
                paint(shot(lora=f"{file}:{wrong}"))
            with pytest.raises(EngineError, match="identity_scale is"):
                paint(shot(identity_scale=float(wrong)))


def test_what_it_cannot_do_it_says(engine, base, people, identities, tmp_path):
    with pytest.raises(PersonError, match="3 at least"):
        engine.learn(replace(people["A"], crops=people["A"].crops[:2]))
    face = people["A"].crops[0].face
    canvas = Canvas(pixels=people["A"].crops[0].pixels, faces=(face,), slot=0)
    with engine.sitting(identities["A"], STYLE) as paint:
        with pytest.raises(EngineError, match="cannot paint into pictures"):
            paint(shot(), canvas)
        with pytest.raises(EngineError, match="'shape'"):
            paint(shot(shape=1))
        with pytest.raises(EngineError, match="no fast mode"):
            paint(shot(fast="warp"))
    other = replace(STYLE, bases=("flux",))
    with pytest.raises(EngineError, match="made for flux"), engine.sitting(identities["A"], other):
        pass


def test_cancelling_leaves_no_half_file_and_it_can_go_on(engine, people, tmp_path):
    other = replace(engine, folder=lambda name: tmp_path / name)

    def tick(stage, done, total):
        if stage == "learning" and done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        other.learn(people["A"], tick)
    assert not list(tmp_path.rglob("*.part*"))
    assert not list(tmp_path.rglob("result.json"))
    assert other.learn(people["A"]).data.weights.is_file()


def test_what_most_photos_say_of_the_hair_is_the_person_and_is_not_said(people):
    told = ["short hair, red hair, smiling", "short hair, brown hair, smiling", "long hair, red hair, smiling"]
    crops = [replace(people["A"].crops[0], caption=f"portrait photo of an adult, {words}") for words in told]
    own = own_phrases(crops)
    assert own == {"short hair", "red hair"}
    assert caption(crops[1], "ohwx person", own) == "portrait photo of ohwx person, brown hair, smiling"


def test_captions_and_fingerprints(base, people, tmp_path):
    crop = people["A"].crops[0]
    assert caption(replace(crop, caption=""), "ohwx person") == "portrait photo of ohwx person"
    assert fingerprint(base) == fingerprint(base)
    assert fingerprint(base) != fingerprint(BaseRef(path=tiny.sd15(tmp_path / "other", seed=9)))
    assert isinstance(crop.face.embedding, Embedding)


def test_small_shots_take_the_size_of_their_base():
    from types import SimpleNamespace

    def base_of(latents):
        return SimpleNamespace(unet=SimpleNamespace(config=SimpleNamespace(sample_size=latents)))

    portrait = replace(shot(), width_px=512, height_px=640)
    sd15, sdxl = native(portrait, base_of(64)), native(portrait, base_of(128))
    assert (sd15.width_px, sd15.height_px) == (512, 640)
    assert (sdxl.width_px, sdxl.height_px) == (896, 1152)
    large = replace(shot(), width_px=832, height_px=1216)
    assert native(large, base_of(128)) == large
