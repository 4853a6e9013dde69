"""`facechain train` and `make --engine lora`, from real photos to verdicts, on a tiny base."""

import json

import pytest

pytest.importorskip("diffusers")

import tiny

from facechain import bootstrap
from facechain.cli import app, guarded

QUICK = (
    *("--set", "steps=2", "--set", "resolution_px=64", "--set", "rank=2", "--set", "checkpoint_every=1"),
    *("--set", "validate_every=2", "--set", "validation_pictures=1", "--set", "validation_steps=1"),
)


@pytest.fixture
def run(models, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models.absolute()))
    monkeypatch.setenv("FACECHAIN_OFFLINE", "1")
    bootstrap.studio.cache_clear()

    def call(*arguments):
        capfd.readouterr()
        code = guarded(lambda: app([str(a) for a in arguments], standalone_mode=False))
        out, err = capfd.readouterr()
        assert code == 0, err
        return json.loads(out)

    return call


def test_from_photos_to_a_learned_and_judged_portrait(run, models, tmp_path):
    base = tiny.sd15(tmp_path / "base")
    photos = [models / "demo-photos" / name for name in ("obama.jpg", "obama2.jpg", "obama3.jpg")]
    run("people", "add", "ada", *photos, "--consent-by", "Ada", "--purpose", "tests", "--json")
    trained = run("train", "ada", "--base", base, *QUICK, "--json")
    assert trained["folder"].startswith(str(tmp_path / "workspace" / "people" / "ada"))

    make = (
        "make",
        "ada",
        "--engine",
        "lora",
        "--base",
        base,
        "--style",
        "studio_grey",
        "--count",
        1,
        "--set",
        "steps=1",
    )
    made = run(*make, "--seed", 1, "--json")
    (result,) = made["results"]
    assert (
        json.loads(next((tmp_path / "workspace").glob("people/ada/portraits/*/*.json")).read_text())["recipe"]["base"]
        == "base"
    )
    assert result["verdicts"][0]["why"].startswith("dropped: no face"), "a random base paints noise, and is told so"
    assert len(list((tmp_path / "workspace").glob("people/ada/learned/*/result"))) == 1, "the training was used again"
