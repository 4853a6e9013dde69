"""Painting into a picture: what is outside the face keeps its bits, and no face knows of another."""

import numpy as np
import pytest
import tiny
from diffusion_kit import Bare, context
from PIL import Image

from facechain.engines.diffusion.base import BaseRef, family_of, load
from facechain.engines.inpaint.face import native_side
from facechain.engines.inpaint.ground import blanked, grounds
from facechain.engines.inpaint.repaint import Repaint, skipped, steps_for
from facechain.errors import EngineError
from facechain.types import Canvas, Photo, Shot, Style
from facechain.vision.readers import LANDMARKERS, PARSERS, READERS

torch = pytest.importorskip("torch")

STYLE = Style(id="test", title="test", licence="none", steps=3, sampler="ddim")


def shot(seed=5, **options) -> Shot:
    return Shot(index=0, seed=seed, prompt="a man", negative="", width_px=64, height_px=64, options=options)


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request, tmp_path_factory):
    torch.set_num_threads(1)
    return getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param) / request.param)


@pytest.fixture(scope="module")
def tools(models):
    def path(pack, file):
        return models / pack / file

    return LANDMARKERS["face_landmarker"](path), PARSERS["selfie_multiclass"](path), READERS["yunet_sface"](path)


@pytest.fixture(scope="module")
def engine(folder, tools):
    landmarker, parser, _ = tools
    assert native_side(folder, family_of(folder)) == 64
    tools_given = {"landmarker": lambda: landmarker, "parser": lambda: parser}
    return Bare(context(folder, **tools_given), prompt=lambda identity: identity.person)


@pytest.fixture(scope="module")
def pair(models, tools):
    """Two real people, so close that each is seen beside the other."""
    one = np.asarray(Image.open(models / "astronaut" / "astronaut.png").convert("RGB"))[30:230, 130:310]
    two = np.asarray(Image.open(models / "demo-photos" / "obama.jpg").convert("RGB").resize((455, 569)))[0:200, 130:310]
    pixels = np.hstack([one, two])
    faces = tools[2].detect(pixels)
    assert len(faces) == 2
    return pixels, faces


def paint(engine, pair, slot, name="a man", pixels=None, seed=5, **options):
    with engine.session(name, STYLE) as brush:
        return brush(
            shot(seed, **options), Canvas(pixels=pair[0] if pixels is None else pixels, faces=pair[1], slot=slot)
        )


def test_the_face_changes_and_nothing_else(engine, pair):
    pixels, faces = pair
    made = paint(engine, pair, 0, strength=0.9)
    owner = grounds(faces, *pixels.shape[:2])
    np.testing.assert_array_equal(made[owner != 0], pixels[owner != 0])
    x, y = faces[0].points_px[2].astype(int)
    assert (made[y - 10 : y + 10, x - 10 : x + 10] != pixels[y - 10 : y + 10, x - 10 : x + 10]).mean() > 0.9
    np.testing.assert_array_equal(made, paint(engine, pair, 0, strength=0.9))


def test_strength_is_how_much(engine, pair):
    np.testing.assert_array_equal(paint(engine, pair, 0, strength=0), pair[0])
    little, much = (
        np.abs(paint(engine, pair, 0, strength=s).astype(int) - paint(engine, pair, 0, seed=6, strength=s)).mean()
        for s in (0.02, 1.0)
    )
    assert little < much, "the more of the picture stays, the less the seed counts"
    for wrong in (1.5, "strong"):
        with pytest.raises(EngineError, match="strength"):
            paint(engine, pair, 0, strength=wrong)


def test_one_after_the_other_is_each_alone(engine, pair):
    pixels, faces = pair
    first = paint(engine, pair, 0, "a man")
    both = paint(engine, pair, 1, "a red woman", pixels=first)
    alone = paint(engine, pair, 1, "a red woman")
    second = grounds(faces, *pixels.shape[:2]) == 1
    assert (alone != pixels)[second].any()
    np.testing.assert_array_equal(both[second], alone[second])
    np.testing.assert_array_equal(both[~second], first[~second])


def test_what_is_blanked_does_not_show():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (70, 50, 3), np.uint8)
    gone = np.zeros((70, 50), bool)
    gone[10:40, 5:30] = True
    other = np.where(gone[..., None], 255 - picture, picture).astype(np.uint8)
    filled = blanked(picture, gone)
    np.testing.assert_array_equal(filled, blanked(other, gone))
    np.testing.assert_array_equal(filled[~gone], picture[~gone])


def test_steps_left_at_any_strength():
    for strength in np.linspace(0.003, 1, 200):
        for steps in (1, 7, 30):
            assert int(steps_for(steps, strength) * strength) >= 1
    canvas = Repaint(pixels=np.zeros((8, 8, 3), np.uint8), faces=(), slot=0, mask=np.ones((8, 8), bool), strength=0.6)
    assert skipped(canvas, 50) == 20
    assert skipped(None, 50) == 0


def test_controlnets_guide_inside_a_picture(folder, engine, pair, tmp_path):
    net = tiny.controlnet(tmp_path / "canny", folder)
    able = Bare(context(folder, controlnet=lambda kind, family, named: net))
    canvas = Repaint(
        pixels=pair[0][:64, :64], faces=(), slot=0, mask=np.ones((64, 64), bool), strength=0.8
    )  # all of it may change
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:40, 20:40] = 255
    with able.session(style=STYLE) as brush:
        plain = brush(shot(), canvas)
        guided = brush(shot(controls={"canny": Photo(id="c", name="c", pixels=picture)}), canvas)
    assert np.abs(plain.astype(int) - guided).max() > 3


def test_an_inpainting_base_paints_into_pictures_only(folder, tmp_path):
    from diffusers import UNet2DConditionModel

    pipe = load(BaseRef(path=folder))
    config = {**pipe.unet.config, "in_channels": 9}
    torch.manual_seed(0)
    pipe.unet = UNet2DConditionModel.from_config(config).eval()
    pipe.save_pretrained(tmp_path / "inpainting")
    base = tmp_path / "inpainting"
    assert family_of(base) == family_of(folder)
    canvas = Repaint(pixels=np.full((64, 64, 3), 90, np.uint8), faces=(), slot=0, mask=np.ones((64, 64), bool))
    with Bare(context(base)).session(style=STYLE) as brush:
        assert brush(shot(), canvas).shape == (64, 64, 3)
        with pytest.raises(EngineError, match="into pictures only"):
            brush(shot())


def test_without_landmarks_and_parts_no_face_is_painted_into_a_picture(folder, pair):
    with pytest.raises(EngineError, match="cannot paint into pictures"):
        paint(Bare(context(folder)), pair, 0)
