"""The starter: from photos to judged portraits by every engine it can feed, from a checkout alone."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("diffusers")

import starter_kit
from starter_kit import FAMILIES, SHIPPED, ship

from facechain import bootstrap, demo, doctor
from facechain.cli import app, guarded
from facechain.config import read_app
from facechain.engines.about import FILE, about
from facechain.engines.diffusion.base import BaseRef, load
from facechain.engines.diffusion.sampling import text_to_image
from facechain.engines.faceid import FaceIdParams
from facechain.engines.instantid import InstantIdParams
from facechain.errors import ConfigError, EngineError
from facechain.packs import Packs
from facechain.photos.read import read
from facechain.types import Request, Shot

PAINTERS = ("faceid", "instantid")


@pytest.fixture(scope="module", params=FAMILIES)
def configs(request, tmp_path_factory):
    return starter_kit.configured(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def studio(configs, models, tmp_path_factory):
    """Ada is known from three photos, Bo from one; no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "CONFIGS", configs)
        patch.setattr(doctor, "CONFIGS", configs)
        patch.setenv("FACECHAIN_WORKSPACE", str(tmp_path_factory.mktemp("workspace")))
        patch.setenv("FACECHAIN_MODELS", str(models.absolute()))
        patch.setenv("FACECHAIN_OFFLINE", "1")
        bootstrap.release()
        made = bootstrap.studio()
        for name, stems in {"Ada": ("obama", "obama2", "obama3"), "Bo": ("biden",)}.items():
            photos = [models / "demo-photos" / f"{stem}.jpg" for stem in stems]
            made.enrol(name, photos, consent_by="Test Person", purpose="tests")
        yield made
    bootstrap.release()


def _side(studio):
    return about(studio.tools.packs.status("starter").folder).side_px


def _shot(studio, **options):
    side = _side(studio)
    return Shot(index=0, seed=5, prompt="a person", negative="", width_px=side, height_px=side, options=options)


def _painted(studio, engine, person, **options):
    opened = studio.tools.engine(engine, "starter", ())
    with opened.sitting(opened.learn(studio.person(person)), studio.style("")) as paint:
        return paint(_shot(studio, **{"steps": 2, **options}))


# ── what is said of it ───────────────────────────────────────────────────────────────────────────


def test_a_newcomer_is_offered_the_engines_it_feeds(studio):
    offers = {offer.card.name: offer for offer in studio.engines()}
    for name in ("lora", *PAINTERS):
        assert (offers[name].state, offers[name].base, offers[name].commercial) == ("ready", "Starter", "yes")
        assert "rendered people" in offers[name].base_note
    assert offers["instantid"].card.packs == ("starter", "yunet", "sface")
    for name in ("faceid-plus", "pulid", "arc2face"):
        assert offers[name].needs_base, "published files do not fit it"
    assert "another base of the family sdxl" in offers["pulid"].state
    assert any("Starter" in finding.what and finding.ok for finding in doctor.examine())


def test_published_files_are_not_put_on_it(studio):
    with pytest.raises(EngineError, match="another base"):
        studio.make(Request(people=("Ada",), engine="faceid-plus", count=1))


def test_an_identitynet_that_is_not_there_is_not_offered(configs, tmp_path):
    home = configs / "packs" / "starter"
    (tmp_path / "vae").mkdir()
    for name in (FILE, "vae/config.json", "ip-adapter-faceid.safetensors"):
        (tmp_path / name).write_bytes((home / name).read_bytes())
    assert set(about(tmp_path).identity) == {"faceid"}


@pytest.mark.parametrize("line", ["side_px = 64", "colour = 1", 'square = "yes"', "[identity.faceid]\nfile = 'x'"])
def test_what_a_base_may_not_say(tmp_path, line):
    (tmp_path / FILE).write_text(line)
    with pytest.raises(ConfigError):
        about(tmp_path)


# ── from photos to portraits ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("engine", PAINTERS)
def test_from_a_photo_to_a_judged_portrait(studio, engine, capfd):
    words = ["make", "Bo", "--engine", engine, "--base", "starter", "--style", "studio_grey", "--count", "1", "--json"]
    assert guarded(lambda: app([*words, "--seed", "1"], standalone_mode=False)) == 0, capfd.readouterr().err
    (result,) = json.loads(capfd.readouterr().out)["results"]
    (verdict,) = result["verdicts"]
    assert verdict["judge"] == "dlib_resnet_v1"
    (portrait,) = [p for p in studio.portraits("Bo") if p.recipe["engine"] == engine]
    pixels = read(portrait.path).pixels
    assert pixels.shape == (_side(studio), _side(studio), 3), "nothing is enlarged"
    assert set(portrait.recipe["packs"]) == {"starter", "yunet", "sface"}
    assert (portrait.recipe["base"], portrait.recipe["involved"]) == ("starter", ["sface_2021dec"])
    assert portrait.recipe["shot"]["width_px"] == _side(studio)


def test_the_demos_portraits_by_every_engine_after_a_short_training(studio, tmp_path):
    made = demo.painted(studio, "Ada", tmp_path)
    assert [engine for engine, _ in made] == [result.engine for _, result in made] == ["faceid", "instantid", "lora"]
    assert not list(tmp_path.glob("*.png")), "equal names of two engines would be one file"
    for engine, result in made:
        assert result.verdicts[0].judge == "dlib_resnet_v1", engine
        assert read(result.path).pixels.shape == (_side(studio), _side(studio), 3)
    folder = studio.train("Ada", "starter", {"effort": demo.EFFORT}).folder  # the same training, so none
    told = json.loads((folder / "job.json").read_text("utf-8"))["settings"]
    assert told["steps"] == 1
    assert (told["resolution_px"], told["validation_guidance"]) == (_side(studio), 2.5)


# ── what the adapter promises ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("engine", PAINTERS)
def test_the_same_shot_is_the_same_picture_and_another_person_another(studio, engine):
    first, other, again = (_painted(studio, engine, name) for name in ("Ada", "Bo", "Ada"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("engine", "kind"), [("faceid", FaceIdParams), ("instantid", InstantIdParams)])
def test_at_scale_0_it_is_the_base_bit_for_bit(studio, engine, kind):
    pipe = load(BaseRef(path=studio.tools.packs.status("starter").folder))
    chosen = {"steps": 2, "guidance": 2.5, "sampler": "ddim"}
    (plain,) = text_to_image(pipe, [_shot(studio)], kind(**chosen))
    off = {"scale": 0.0} | ({"control_scale": 0.0} if engine == "instantid" else {})
    assert np.array_equal(_painted(studio, engine, "Ada", **off, **chosen), plain)


@pytest.mark.parametrize("engine", PAINTERS)
def test_led_by_the_recogniser_a_portrait_is_more_like_the_person(studio, engine):
    plain, led, again = (
        _painted(studio, engine, "Ada", steps=8, sampler="ddim", likeness=much) for much in (0.0, 0.15, 0.0)
    )
    assert np.array_equal(plain, again), "nothing of it stays in the base"
    coach, known = studio.tools.reader(), studio.person("Ada").template.vector
    likeness = [
        [float(face.embedding.vector @ known) for face in coach.read(cv2.resize(made, (256, 256)))]
        for made in (plain, led)
    ]
    if all(likeness):
        assert max(likeness[1]) > max(likeness[0]) + 0.1
    else:  # an untrained base paints no faces, and then nothing leads
        assert np.array_equal(plain, led)


def test_the_picture_follows_the_key_points(studio):
    face = np.array([[0, 0.4], [0.2, 0.4], [0.1, 0.5], [0.02, 0.6], [0.18, 0.6]])
    left, right = (_painted(studio, "instantid", "Ada", pose=(face + np.array([x, 0])).tolist()) for x in (0.2, 0.6))
    assert not np.array_equal(left, right)


# ── how it is shipped ────────────────────────────────────────────────────────────────────────────


def test_shipping_lists_every_file_and_refuses_what_is_none(configs, tmp_path):
    packs = Packs.load(configs / "packs", tmp_path, offline=True)
    home = configs / "packs" / "starter"
    there = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()} - {"MODEL_CARD.md"}
    assert {file.path for file in packs.pack("starter").files} == there
    assert packs.verify("starter").bytes < 60_000_000
    with pytest.raises(SystemExit, match="it lacks model_index"):
        ship(tmp_path, configs / "packs")


def test_once_shipped_it_is_the_default_base_and_has_its_card():
    """Before its weights are in, neither."""
    assert (read_app(starter_kit.ROOT / "configs").base == "starter") == SHIPPED
    if SHIPPED:
        card = starter_kit.MANIFEST.with_suffix("") / "MODEL_CARD.md"
        assert "licence" in card.read_text("utf-8").lower()
