"""The template engine on real photos and real models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facechain.engines.template.engine import TemplateEngine
from facechain.engines.template.fuse import region
from facechain.errors import EngineError, TemplateError
from facechain.types import Canvas, Consent, Crop, Embedding, Person, Shot, Style
from facechain.vision.landmarker import Landmarker
from facechain.vision.parser import SelfieParser
from facechain.vision.yunet_sface import YunetSface

STYLE = Style(id="test", title="test", licence="none")


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def reader(models):
    return YunetSface(
        models / "yunet" / "face_detection_yunet_2023mar.onnx", models / "sface" / "face_recognition_sface_2021dec.onnx"
    )


@pytest.fixture(scope="module")
def landmarker(models):
    return Landmarker(models / "landmarker" / "face_landmarker.task")


@pytest.fixture(scope="module")
def engine(models, landmarker):
    return TemplateEngine(landmarker, SelfieParser(models / "parser" / "selfie_multiclass_256x256.tflite"))


@pytest.fixture(scope="module")
def person(models, reader):
    crops = []
    for name in ("obama.jpg", "obama2.jpg"):
        pixels = _pixels(models / "demo-photos" / name)
        face = max(reader.detect(pixels), key=lambda f: f.width_px)
        none = np.zeros(pixels.shape[:2], np.float32)
        crops.append(Crop(photo_id=name, photo_name=name, pixels=pixels, face=face, head_mask=none, quality=0.9))
    template = Embedding(vector=np.zeros(128, np.float32), recogniser="none")
    consent = Consent(who="x", given_by="x", purpose="tests", when=None)
    return Person(name="test", crops=tuple(crops), held_out=(), template=template, consent=consent)


@pytest.fixture(scope="module")
def identity(engine, person):
    return engine.learn(person)


@pytest.fixture(scope="module")
def canvas(models, reader):
    pixels = _pixels(models / "astronaut" / "astronaut.png")
    return Canvas(pixels=pixels, faces=reader.detect(pixels), slot=0)


def shot(seed=7, **options) -> Shot:
    return Shot(index=0, seed=seed, prompt="", negative="", width_px=512, height_px=512, options=options)


def paint(engine, identity, canvas, **kwargs):
    with engine.sitting(identity, STYLE) as brush:
        return brush(shot(**kwargs), canvas)


def test_same_shot_same_pixels_and_another_seed_another_picture(engine, identity, canvas):
    first = paint(engine, identity, canvas)
    np.testing.assert_array_equal(first, paint(engine, identity, canvas))
    assert (first != paint(engine, identity, canvas, seed=8)).any()


def test_an_eye_can_tell_the_portraits_of_a_pool_apart(engine, identity, canvas):
    """Not the light's last digits: another photo, or other proportions of the face."""
    left, top, right, bottom = canvas.faces[0].box_px.astype(int)
    with engine.sitting(identity, STYLE) as brush:
        pool = [
            brush(replace(shot(seed=at), index=at), canvas)[top:bottom, left:right].astype(float) for at in range(4)
        ]
    apart = [np.abs(a - b).mean() for at, a in enumerate(pool) for b in pool[at + 1 :]]
    assert min(apart) > 3, apart  # of 255; the grain alone is about 1


def test_pixels_outside_the_region_are_untouched(engine, identity, canvas, landmarker):
    out = paint(engine, identity, canvas)
    rows, cols = region(landmarker.mesh(canvas.pixels, canvas.faces[0]).points_px, *canvas.pixels.shape[:2])
    outside = np.ones(canvas.pixels.shape[:2], bool)
    outside[rows, cols] = False
    np.testing.assert_array_equal(out[outside], canvas.pixels[outside])
    # Within it the corners stay too: only the head and what moves with it changes.
    np.testing.assert_array_equal(out[rows, cols][0], canvas.pixels[rows, cols][0])


def test_the_hair_in_front_stays(engine, identity, canvas):
    out = paint(engine, identity, canvas)
    fringe = (slice(48, 66), slice(190, 250))  # hair above the forehead; it may move with the face, not vanish
    was, now = (p[fringe].reshape(-1, 3).astype(float) for p in (canvas.pixels, out))
    assert np.abs(was.mean(0) - now.mean(0)).max() < 15
    assert now.std(0).mean() > 0.7 * was.std(0).mean()


def test_the_face_is_now_nearer_to_the_person(engine, identity, canvas, reader, person):
    def likeness(pixels):
        face = reader.read(pixels)[0]
        given = reader.embed(person.crops[0].pixels, [person.crops[0].face])[0].vector
        return float(face.embedding.vector @ given)

    before, after = likeness(canvas.pixels), likeness(paint(engine, identity, canvas))
    assert before < 0.3
    assert after > 0.5


def test_strength_and_shape_move_the_likeness_gradually(engine, identity, canvas):
    def change(**options):
        return np.abs(paint(engine, identity, canvas, **options).astype(int) - canvas.pixels).mean()

    nothing, some, all_ = (change(strength=s, shape=0.85, light=0.75) for s in (0.0, 0.5, 1.0))
    assert nothing == 0
    assert 0.3 * all_ < some < 0.9 * all_
    assert change(strength=1.0, shape=0.0, light=0.75) < all_


def test_one_sitting_leaves_no_trace_in_the_next(engine, identity, canvas, person):
    alone = paint(engine, identity, canvas)
    other = engine.learn(replace(person, crops=person.crops[1:]))
    paint(engine, other, canvas)
    np.testing.assert_array_equal(alone, paint(engine, identity, canvas))


@pytest.mark.parametrize("options", [{"identity_scael": 0.5}, {"identity_scale": 1.5}])
def test_wrong_settings_are_named(engine, identity, canvas, options):
    with pytest.raises(EngineError, match=next(iter(options))):
        paint(engine, identity, canvas, **options)


def test_a_missing_canvas_says_how_to_give_one(engine, identity):
    with engine.sitting(identity, STYLE) as brush, pytest.raises(TemplateError, match="--template"):
        brush(shot())


def test_a_person_without_a_readable_face_is_refused(engine, person):
    blank = replace(person.crops[0], pixels=np.full_like(person.crops[0].pixels, 128))
    with pytest.raises(EngineError, match="landmarks"):
        engine.learn(replace(person, crops=(blank,)))


def test_large_pictures_keep_detail(engine, identity, canvas, reader):
    big = np.asarray(Image.fromarray(canvas.pixels[20:320, 100:400]).resize((1500, 1500), Image.Resampling.LANCZOS))
    out = paint(engine, identity, Canvas(pixels=big, faces=reader.detect(big), slot=0))
    assert out.shape == big.shape
    brow = out[420:620, 450:820].astype(float).mean(2)  # brows and eyes, the sharpest part
    assert np.abs(np.diff(brow, axis=0)).max() > 12
