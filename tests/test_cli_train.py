"""`facechain train` and `make --engine lora`, from real photos to verdicts, on a tiny base."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers")

import tiny

from facechain import bootstrap
from facechain.cli import app, guarded
from facechain.photos.read import read

QUICK = (
    *("--set", "steps=2", "--set", "resolution_px=64", "--set", "rank=2", "--set", "checkpoint_every=1"),
    *("--set", "validate_every=2", "--set", "validation_pictures=1", "--set", "validation_steps=1"),
)


@pytest.fixture
def call(models, tmp_path, monkeypatch, capfd):
    """(exit code, output, errors) of one command."""
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models.absolute()))
    monkeypatch.setenv("FACECHAIN_OFFLINE", "1")
    bootstrap.studio.cache_clear()

    def run(*arguments):
        capfd.readouterr()
        code = guarded(lambda: app([str(a) for a in arguments], standalone_mode=False))
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def run(call):
    def succeed(*arguments):
        code, out, err = call(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return succeed


@pytest.mark.parametrize("kind", ["sdxl", "sd15-file", "sdxl-file"])
def test_any_base_learns_and_paints(call, run, models, request, tmp_path, kind):
    """SD 1.5's folder is in the test below; a file has a folder of its name beside it, as no tiny one is published."""
    family, _, file = kind.partition("-")
    folder = base = request.getfixturevalue(family)
    if file:
        (tmp_path / "own").symlink_to(folder)
        base = tiny.single_file(tmp_path / "own.safetensors", folder)
    photos = [models / "demo-photos" / name for name in ("obama.jpg", "obama2.jpg", "obama3.jpg")]
    run("people", "add", "ada", *photos, "--consent-by", "Ada", "--purpose", "tests")
    code, out, err = call("train", "ada", "--base", base, *QUICK)
    assert code == 0, err
    assert "ada is learned" in out
    told = [line for line in err.splitlines() if "GiB" in line]
    assert [line.split()[0] for line in told] == ["base", "trained", "activations", "spare", "in", "Memory:"]
    paint = ("make", "ada", "--engine", "lora", "--base", base, "--style", "studio_grey", "--set", "fast=turbo")
    made = run(*paint, "--count", 1, "--seed", 1)
    (one,) = made["results"]
    assert one["verdicts"][0]["why"].startswith("dropped: no face")
    assert read(Path(one["path"])).pixels.std() > 5


def test_the_judge_never_chooses_among_checkpoints(call, run, models, sd15, monkeypatch):
    photos = [models / "demo-photos" / name for name in ("obama.jpg", "obama2.jpg", "obama3.jpg")]
    run("people", "add", "ada", *photos, "--consent-by", "Ada", "--purpose", "tests")
    app_file = bootstrap.read_app
    monkeypatch.setattr(
        bootstrap, "read_app", lambda configs: replace(app_file(configs), judges=(app_file(configs).reader,))
    )
    bootstrap.studio.cache_clear()
    code, _, err = call("train", "ada", "--base", sd15, *QUICK)
    bootstrap.studio.cache_clear()
    assert code == 2
    assert "Name another recogniser" in err


def recipes(folder):
    return [json.loads(path.read_text())["recipe"] for path in sorted(folder.glob("people/ada/portraits/*/*.json"))]


def test_from_photos_to_a_learned_and_judged_portrait(call, run, models, sd15, sdxl, tmp_path):
    photos = [models / "demo-photos" / name for name in ("obama.jpg", "obama2.jpg", "obama3.jpg")]
    run("people", "add", "ada", *photos, "--consent-by", "Ada", "--purpose", "tests")

    # Captions may be edited before anything is learned.
    prepared = run("train", "ada", "--base", sd15, *QUICK, "--prepare")
    caption = next(Path(prepared["folder"]).glob("examples/*.txt"))
    caption.write_text("portrait photo of ohwx person, red coat")
    trained = run("train", "ada", "--base", sd15, *QUICK)
    assert trained["folder"] == prepared["folder"]
    assert caption.read_text() == "portrait photo of ohwx person, red coat"
    assert trained["folder"].startswith(str(tmp_path / "workspace" / "people" / "ada"))

    # Painted, judged, and taken for nobody: a random base paints noise. The budget ends it.
    make = ("make", "ada", "--engine", "lora", "--base", sd15, "--style", "studio_grey", "--set", "steps=1")
    made = run(*make, "--count", 1, "--keep", 1, "--budget", 2, "--seed", 1)
    assert len(made["results"]) == 2
    assert made["results"][0]["verdicts"][0]["why"].startswith("dropped: no face")
    assert "budget of 2 portraits is used" in made["summary"]
    assert {recipe["base"] for recipe in recipes(tmp_path / "workspace")} == {"sd15"}
    assert len(list((tmp_path / "workspace").glob("people/ada/learned/*/result"))) == 1, "the training was used again"

    # Following a picture, by two networks at once.
    nets = {kind: tiny.controlnet(tmp_path / kind, sd15, seed=at) for at, kind in enumerate(("openpose", "canny"))}
    own = [part for kind, net in nets.items() for part in ("--set", f"controlnet_{kind}={net}")]
    follow = (*make, "--count", 1, "--seed", 1, "--pose", models / "demo-photos" / "biden.jpg")
    several = ("--set", "control=openpose,canny:0.7")
    followed = run(*follow, *several, *own)
    plain, drawn = (read(Path(one["results"][0]["path"])).pixels.astype(int) for one in (made, followed))
    assert np.abs(plain - drawn).max() > 3
    recipe = next(recipe for recipe in recipes(tmp_path / "workspace") if "controls" in recipe["shot"]["options"])
    told = recipe["shot"]["options"]
    assert told["control_scales"] == {"openpose": 1.0, "canny": 0.7}
    assert {kind: list(picture) for kind, picture in told["controls"].items()} == {kind: ["sha256"] for kind in nets}
    assert told["controlnet_canny"] == "canny", "not where it lies"

    # What cannot be followed says so and names the next step.
    code, _, err = call(*follow)
    assert code == 2
    assert "facechain packs fetch control_openpose_sd15" in err
    foreign = tiny.controlnet(tmp_path / "foreign", sdxl)
    code, _, err = call(*follow, "--set", f"controlnet_openpose={foreign}")
    assert code == 2
    assert "another family of bases" in err
