"""Every one-photo engine, named by its packs, from real photos: freely and into a template. Then the command line.

The packs hold small random weights of the published structure under the published names; InsightFace's small networks
stand in for its large ones.
"""

import functools
import json
import re
import shutil

import identity_kit as kit
import numpy as np
import pytest
import tiny_identity as tiny
import torch
from PIL import Image

from facechain import bootstrap
from facechain.cli import app, guarded
from facechain.engines.diffusion import base
from facechain.engines.identity.open import FACEID, FACT, IDENTITY
from facechain.engines.inpaint.ground import grounds
from facechain.types import Canvas, Shot, Style

AGREED = ("--consent-by", "Test Person", "--purpose", "tests")
STRUCTURES = {"faceid": "faceid", "faceid-plus": "faceid_plus", "faceid-plusv2": "faceid_plus"}
STRUCTURES |= {"portrait": "portrait", "portrait-unnorm": "instantid"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Diffusers folders, and the layouts of their UNets."""
    folder, made = tmp_path_factory.mktemp("bases"), {}
    for name, pipe in kit.bases(folder).items():
        pipe.save_pretrained(folder / name)
        made[name] = (folder / name, tiny.layout(pipe), pipe)
    return made


@pytest.fixture(scope="module")
def models_folder(models, bases, tmp_path_factory):
    """The fetched packs, and those of every engine."""
    if not (models / "w600k_mbf" / "w600k_mbf.onnx").is_file():
        pytest.skip("the pack w600k_mbf was not fetched")
    folder = tmp_path_factory.mktemp("models")
    for pack in models.iterdir():
        if pack.is_dir():
            (folder / pack.name).symlink_to(pack.absolute())
    small = (models / "w600k_mbf" / "scrfd_500m_bnkps.onnx", models / "w600k_mbf" / "w600k_mbf.onnx")
    faces = {"buffalo_l": ("det_10g", "w600k_r50"), "antelopev2": ("scrfd_10g_bnkps", "glintr100")}
    for pack, names in {**faces, "arc2face": ("scrfd_10g_bnkps", "arcface")}.items():
        (folder / pack).mkdir()
        for file, name in zip(small, names, strict=True):
            (folder / pack / f"{name}.onnx").symlink_to(file.absolute())
    kit.clip_folder(folder / "clip-vit-h")
    for pack, (file, kind, _) in FACEID.items():
        family = "sdxl" if "sdxl" in file else "sd15"
        tiny.save(folder / pack / file, tiny.weights(STRUCTURES[kind], bases[family][1]))
    for pack, file in FACT.items():
        tiny.save(folder / pack / file, tiny.weights("fact", bases["sd15"][1]))
    tiny.save(folder / "transface" / "ms1mv2_model_TransFace_S.pt", tiny.weights("transface"))
    tiny.save(folder / "eva02-clip" / "EVA02_CLIP_L_336_psz14_s6B.pt", tiny.weights("eva_clip"))
    xl = bases["sdxl"][1]
    tiny.save(folder / "instantid" / "ip-adapter.bin", tiny.weights("instantid", xl))
    tiny.identitynet(folder / "instantid")
    for version in ("v1", "v2"):
        flat = tiny.weights(f"photomaker_{version}", xl)
        flat["id_encoder.fuse_module.layer_norm.weight"] *= 30  # one word among 77 must show in so small a model
        pack = "photomaker" if version == "v1" else "photomaker-v2"
        tiny.save(folder / pack / f"photomaker-{version}.bin", flat)
    tiny.save(folder / "pulid-v1" / "pulid_v1.bin", tiny.weights("pulid_v1", xl))
    tiny.save(folder / "pulid" / "pulid_v1.1.safetensors", tiny.weights("pulid_v11", xl))
    text = tiny.filled(kit.arc2face_text(bases["arc2face"][2]))
    torch.save(text, (folder / "arc2face" / "encoder").mkdir() or folder / "arc2face" / "encoder" / "pytorch_model.bin")
    (folder / "arc2face" / "encoder" / "config.json").write_text("{}")
    shutil.copytree(bases["arc2face"][0] / "unet", folder / "arc2face" / "arc2face")
    return folder


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """The shipped configuration, without the sizes and hashes of files that are smaller here."""
    folder = tmp_path_factory.mktemp("configs") / "configs"
    shutil.copytree(bootstrap.CONFIGS, folder)
    packs = {pack for card, _ in IDENTITY.values() for pack in card.packs}
    for pack in packs:
        path = folder / "packs" / f"{pack}.toml"
        parts = re.split(r"(?m)^(?=\[\[)", path.read_text("utf-8"))
        files = [re.sub(r"(?m)^(sha256|bytes|unverified) = .*\n", "", p) for p in parts if p.startswith("[[files]]")]
        bare = iter([f"{part.rstrip()}\nunverified = true\n\n" for part in files])
        path.write_text("".join(next(bare) if p.startswith("[[files]]") else p for p in parts), "utf-8")
    return folder


@pytest.fixture(scope="module")
def patched(models_folder, configs, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "CONFIGS", configs)
        patch.setattr(base, "load", functools.cache(base.load))  # one base for all engines of a family
        patch.setenv("FACECHAIN_WORKSPACE", str(tmp_path_factory.mktemp("workspace")))
        patch.setenv("FACECHAIN_MODELS", str(models_folder))
        patch.setenv("FACECHAIN_OFFLINE", "1")
        bootstrap.studio.cache_clear()
        bootstrap.fetch_packs({pack for card, _ in IDENTITY.values() for pack in card.packs})  # the first look decides
        yield
    bootstrap.studio.cache_clear()


@pytest.fixture(scope="module")
def studio(patched, models):
    studio = bootstrap.studio()
    for name, stems in {"ada": ("obama", "obama2", "obama3"), "bo": ("biden",)}.items():
        photos = [models / "demo-photos" / f"{stem}.jpg" for stem in stems]
        studio.enrol(name, photos, consent_by="Test Person", purpose="tests")
    return studio


@pytest.fixture(scope="module")
def template(models, tmp_path_factory):
    """Bo and Ada beside each other."""
    sides = []
    for name in ("biden.jpg", "obama2.jpg"):
        with Image.open(models / "demo-photos" / name) as photo:
            sides.append(np.asarray(photo.convert("RGB").resize((round(photo.width * 320 / photo.height), 320))))
    path = tmp_path_factory.mktemp("template") / "two.png"
    Image.fromarray(np.hstack(sides)).save(path)
    return path


def family(name):
    return "arc2face" if name == "arc2face" else IDENTITY[name][0].bases[0]


@pytest.mark.parametrize("name", IDENTITY)
def test_from_real_photos_to_a_picture_and_into_a_template(name, studio, bases, template):
    engine = studio.tools.engine(name, str(bases[family(name)][0]), ())
    pixels = np.asarray(Image.open(template))
    faces = studio.tools.reader().detect(pixels)
    assert len(faces) == 2
    options = {"sampler": "", "steps": 2, "guidance": 3.0, **kit.quick(name)}
    shot = Shot(index=0, seed=3, prompt="photo of a man", negative="", width_px=64, height_px=64, options=options)
    plain = Style(id="", title="", licence="")
    with engine.sitting(engine.learn(studio.person("ada")), plain) as paint:
        free, into = paint(shot), paint(shot, Canvas(pixels=pixels, faces=faces, slot=1))
    assert free.shape == (64, 64, 3)
    assert free.std() > 5, "a picture, and no failed number painted black"
    owner = grounds(faces, *pixels.shape[:2])
    assert np.array_equal(into[owner != 1], pixels[owner != 1]), "nothing but the face meant may change"
    x, y = faces[1].points_px[2].astype(int)
    assert (into[y - 9 : y + 9, x - 9 : x + 9] != pixels[y - 9 : y + 9, x - 9 : x + 9]).mean() > 0.9
    with engine.sitting(engine.learn(studio.person("bo")), plain) as paint:
        assert not np.array_equal(free, paint(shot)), "another person must give another picture"


def test_learning_reads_no_weights_when_the_pack_names_them(studio, bases, monkeypatch):
    from facechain.engines.identity import engine as shared

    def refuse(*_, **__):
        raise AssertionError("learning must not read the weights")

    engine = studio.tools.engine("faceid-portrait", str(bases["sd15"][0]), ())
    monkeypatch.setattr(shared, "open_checkpoint", refuse)
    engine.learn(studio.person("bo"))


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def run(studio, capfd):
    def call(*arguments):
        capfd.readouterr()
        code = guarded(lambda: app([str(a) for a in (*arguments, "--json")], standalone_mode=False))
        out, err = capfd.readouterr()
        return (code, json.loads(out)) if code == 0 else (code, err)

    return call


QUICK = ("--count", 1, "--seed", 5, "--set", "steps=2", "--set", "sampler=ddim")


def recipe(made):
    with Image.open(made["results"][0]["path"]) as picture:
        return json.loads(picture.info["facechain"])


def test_what_does_not_fit_or_is_not_there_is_refused_by_name(run, bases, models_folder):
    make = ("make", "ada", "--base", bases["sd15"][0], *QUICK, "--engine")
    code, err = run(*make, "instantid")
    assert (code, "bases" in err) == (2, True), "it is for SDXL"
    code, err = run("make", "ada", *QUICK, "--engine", "faceid", "--base", bases["sdxl"][0])
    assert (code, "bases" in err) == (2, True), "it is for SD 1.5"
    file = models_folder / "faceid" / "ip-adapter-faceid_sd15.bin"
    whole, aside = file.read_bytes(), file.rename(file.with_suffix(".aside"))
    try:
        file.write_bytes(whole[: len(whole) // 2])
        code, err = run(*make, "faceid")
        assert (code, file.name in err) == (2, True)
        file.unlink()
        code, err = run(*make, "faceid")
        assert (code, "faceid" in err and "etch" in err) == (2, True), "it says what to fetch"
    finally:
        aside.replace(file)
    assert run(*make, "faceid")[0] == 0


def test_two_people_into_one_template(run, bases, template):
    make = ("make", "ada", "bo", "--engine", "faceid", "--base", bases["sd15"][0], "--template", template, *QUICK)
    code, made = run(*make, "--set", "fuse=0.9")
    assert code == 0, made
    told = recipe(made)
    ada, bo = told["prompts"]
    assert ada != bo, "each is painted in their own words"
    assert told["fusion"] == {"strength": 0.9, "faces": []}, "nobody can read what random weights painted"
    assert {"faceid", "buffalo_l", "landmarker"} <= set(told["packs"])
    assert [v["person"] for v in made["results"][0]["verdicts"]] == ["ada", "bo"]
    for wrong in ("fuse=2", "fuse=much"):
        assert run(*make, "--set", wrong)[0] == 2
    code, err = run("make", "ada", "--template", template, "--set", "fuse=1")
    assert (code, "fuses the face already" in err) == (2, True)


def test_who_stands_in_anothers_place_is_named_and_fusion_puts_it_right(run, bases, template):
    """At strength 0 nothing is painted: Ada is meant where Bo is and Bo where Ada is."""
    make = ("make", "ada", "bo", "--engine", "faceid", "--base", bases["sd15"][0], "--template", template, *QUICK)
    code, swapped = run(*make, "--set", "strength=0")
    assert code == 0, swapped
    before = swapped["results"][0]["verdicts"]
    assert before[0]["why"] == "dropped: people changed places: the face meant for ada is bo's"
    code, fused = run(*make, "--set", "strength=0", "--set", "fuse=1")
    assert code == 0, fused
    assert recipe(fused)["fusion"]["faces"] == [0, 1]
    for one, other in zip(before, fused["results"][0]["verdicts"], strict=True):
        assert one["likeness_before"] is None
        assert other["likeness_before"] == pytest.approx(one["likeness"])
        assert other["likeness"] > one["likeness"] + 0.1


def test_a_template_is_followed_face_by_face(run, bases, template, tmp_path):
    from diffusers import ControlNetModel

    net = tmp_path / "net"
    tiny_net = ControlNetModel.from_unet(bases["sd15"][2].unet, conditioning_embedding_out_channels=(16, 16, 16, 16))
    torch.manual_seed(1)
    for name, weight in tiny_net.named_parameters():
        if "controlnet" in name:
            torch.nn.init.normal_(weight, std=0.3)
    tiny_net.save_pretrained(net)
    make = ("make", "ada", "--engine", "faceid", "--base", bases["sd15"][0], *QUICK)
    into = (*make, "--template", template)
    follow = ("--set", "control=canny", "--set", f"controlnet_canny={net}")
    pictures = []
    for more in ((), follow):
        code, made = run(*into, *more)
        assert code == 0, made
        pictures.append(np.asarray(Image.open(made["results"][0]["path"])))
    assert not np.array_equal(*pictures)
    code, err = run(*into, "--pose", template, *follow)
    assert (code, "keep its pose" in err) == (2, True)
    code, err = run(*into, "--start", template)
    assert (code, "own initial image" in err) == (2, True)
    code, err = run(*make, "--set", "control=canny", "--pose", template)
    assert (code, "ControlNet" in err) == (2, True)


def test_instantid_takes_a_pose_a_start_and_a_mask(run, bases, models, tmp_path):
    mask, start = tmp_path / "mask.png", models / "demo-photos" / "biden.jpg"
    Image.fromarray(np.repeat(np.tri(64, dtype=np.uint8)[..., None] * 255, 3, axis=2)).save(mask)
    make = ("make", "ada", "--engine", "instantid", "--base", bases["sdxl"][0], *QUICK)
    pictures = []
    posed = ("--pose", models / "astronaut" / "astronaut.png")
    for more in ((), posed, ("--start", start), ("--start", start, "--mask", mask)):
        code, made = run(*make, *more)
        assert code == 0, made
        pictures.append(np.asarray(Image.open(made["results"][0]["path"])))
        if more == posed:
            pose = np.array(recipe(made)["shot"]["options"]["face_points"])
            assert pose.shape == (5, 2)
            assert 0 < pose.min() < pose.max() < 1
            assert pose[0, 0] < pose[1, 0], "the left eye is left"
            assert "controls" not in recipe(made)["shot"]["options"]
    assert all(not np.array_equal(a, b) for n, a in enumerate(pictures) for b in pictures[:n])
    code, err = run(*make, "--mask", mask)
    assert (code, "without an initial image" in err) == (2, True)
