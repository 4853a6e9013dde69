"""`facechain serve` as a person meets it: photos go in over the wire, a kept portrait comes out, it ends cleanly."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from facechain import bootstrap
from facechain.cli import app, guarded

ROOT = Path(__file__).resolve().parent.parent

PHOTOS = ("obama.jpg", "obama2.jpg", "obama3.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("life") / "workspace"


@pytest.fixture(scope="module")
def server(folder, models):
    """The address of `facechain serve`, with a worker of its own; stopped as a service manager would."""
    environment = {
        **os.environ,
        "FACECHAIN_WORKSPACE": str(folder),
        "FACECHAIN_MODELS": str(models.absolute()),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "facechain", "--offline", "serve", "--port", "0", "--api-only"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line
        yield line.split()[3], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_the_documented_example_and_a_clean_end(server, models, folder, monkeypatch):
    address, process = server
    ada = folder.parent / "photos" / "ada"
    ada.mkdir(parents=True)
    for name in PHOTOS:
        shutil.copy(models / "demo-photos" / name, ada)
    monkeypatch.chdir(folder.parent)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text("utf-8"), re.DOTALL)
    code = code.replace("http://127.0.0.1:7860", address).replace('"count": 8, "keep": 4', '"count": 2, "keep": 1')
    names: dict = {}
    exec(compile(code, "docs/api.md", "exec"), names)

    client, enrolled, made, (kept,) = (names[name] for name in ("api", "enrolled", "made", "kept"))
    assert enrolled["result"]["photos"] + enrolled["result"]["held_out"] == len(PHOTOS)
    (person,) = client.get("/v1/people").json()["items"]
    assert len(client.get(f"/v1/people/{person['slug']}").json()["pictures"]) == len(PHOTOS)
    assert made["result"]["seed"] == 7
    assert client.get(made["preview"]).status_code == 200
    assert (kept["verdicts"][0]["call"], kept["verdicts"][0]["held_out"]) == ("same person", True)
    assert Image.open(folder.parent / f"{kept['id']}.png").size == (512, 512)

    long = client.post("/v1/jobs", json={**names["asked"], "count": 500}).json()
    with client.stream("GET", f"/v1/jobs/{long['id']}/events") as events:
        for line in events.iter_lines():
            if line == "event: running":
                break
        process.send_signal(signal.SIGTERM)  # while somebody watches and a worker paints
        assert process.wait(60) == 0
    client.close()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}/v1/health")
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(folder))
    assert bootstrap.jobs().workers() == ()
    assert bootstrap.jobs().get(long["id"]).state == "queued"


# ── how it is started ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_nobody_else_may_come_in_while_there_are_no_tokens(host, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    assert guarded(lambda: app(["serve", "--api-only", "--host", host], standalone_mode=False)) == 2
    assert "facechain users add" in capsys.readouterr().err


def test_asking_for_tokens_that_nobody_has(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    assert guarded(lambda: app(["serve", "--api-only", "--auth"], standalone_mode=False)) == 2
    assert "facechain users add" in capsys.readouterr().err


def test_a_port_that_is_taken(tmp_path, monkeypatch, capsys):
    import socket

    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert guarded(lambda: app(["serve", "--api-only", "--port", port], standalone_mode=False)) == 2
    assert "--port" in capsys.readouterr().err
