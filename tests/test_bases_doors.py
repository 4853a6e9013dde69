"""One damaged base at every door: whoever asks is told the same, and nothing is painted or learned with it."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from safetensors.torch import load_file, save_file

from facechain import bootstrap
from facechain.cli import app, guarded
from facechain.errors import PackError
from facechain.jobs.worker import work
from facechain.types import JobState

LOST = "encoder.layers.0.mlp.fc1.bias"


@pytest.fixture
def damaged(tmp_path) -> Path:
    """The starter with a text encoder that lacks a tensor."""
    base = Path(shutil.copytree(bootstrap.CONFIGS / "packs" / "starter", tmp_path / "damaged"))
    file = base / "text_encoder" / "model.safetensors"
    tensors = {key: value for key, value in load_file(file).items() if not key.endswith(LOST)}
    save_file(tensors, file, metadata={"format": "pt"})
    return base


@pytest.fixture
def home(damaged, models, tmp_path, monkeypatch):
    """A workspace with Ada in it, where the damaged base is the usual one."""
    for name, value in {"WORKSPACE": tmp_path / "workspace", "MODELS": models.absolute(), "OFFLINE": 1}.items():
        monkeypatch.setenv(f"FACECHAIN_{name}", str(value))
    read_app = bootstrap.read_app
    monkeypatch.setattr(bootstrap, "read_app", lambda configs: replace(read_app(configs), base=str(damaged)))
    bootstrap.release()
    photos = [models / "demo-photos" / name for name in ("obama.jpg", "obama2.jpg", "obama3.jpg")]
    bootstrap.studio().enrol("Ada", photos, consent_by="Ada", purpose="tests")
    yield tmp_path / "workspace"
    bootstrap.release()


def through_the_queue(kind: str, arguments: dict) -> str:
    """The id of a job that was worked on here."""
    job = bootstrap.jobs().submit(kind, arguments)
    work_here()
    return job.id


def work_here() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    work(bootstrap.jobs(), until_idle=True)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_door_refuses_a_damaged_base_in_the_same_words(home, damaged, capfd):
    from fastapi.testclient import TestClient

    from facechain.api.app import create_app
    from facechain.ui.html import failure
    from facechain.ui.phrases import Words

    def command(*arguments: str) -> str:
        assert guarded(lambda: app(list(arguments), standalone_mode=False)) == 2
        return capfd.readouterr().err.strip().splitlines()[-1].removeprefix("facechain: ")

    paint = ("make", "Ada", "--engine", "faceid", "--style", "studio_grey", "--count", "1")
    said = command(*paint, "--base", str(damaged))
    assert f"The text encoder of damaged lacks tensors: text_model.{LOST}." in said or f"tensors: {LOST}." in said
    assert command("train", "Ada", "--base", str(damaged)) == said

    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        asked = {"kind": "make", "people": ["Ada"], "engine": "faceid", "style": "studio_grey", "count": 1}
        answer = client.post("/v1/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        work_here()
        job = client.get(f"/v1/jobs/{answer.json()['id']}").json()
    assert (job["state"], f"{job['error']} {job['next_step']}") == ("failed", said)

    arguments = {"people": ["Ada"], "engine": "faceid", "style": "studio_grey", "count": 1, "base": str(damaged)}
    shown = bootstrap.jobs().get(through_the_queue("make", arguments))
    assert shown.state is JobState.FAILED
    assert failure(Words(), shown) == said
    assert not list(home.glob("people/*/portraits/*/*.png"))


def test_what_is_wrong_with_the_base_is_told_before_files_an_engine_lacks(home, damaged):
    shutil.rmtree(damaged / "vae")
    engine = bootstrap.studio().tools.engine
    assert engine("faceid", str(damaged), ()).card.manner.side_px == 128, "a shot may name a VAE"
    (damaged / "list.safetensors").write_bytes(b"\x06\0\0\0\0\0\0\0[1, 2]")
    with pytest.raises(PackError, match="does not list tensors"):
        engine("faceid-portrait", str(damaged / "list.safetensors"), ())


def test_a_base_that_cannot_be_one_is_explained_before_anything_is_asked(home, damaged):
    """In place of "no base is named"."""
    (damaged / "model_index.json").write_text("[]", "utf-8")
    (offer,) = (offer for offer in bootstrap.studio().engines() if offer.card.name == "lora")
    assert offer.needs_base
    assert "model_index.json holds a list where a mapping is expected" in offer.base_problem
