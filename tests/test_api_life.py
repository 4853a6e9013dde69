"""`facechain serve` as a person meets it: photos go in over the wire, a kept portrait comes out, it ends cleanly."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from PIL import Image

from facechain.cli import app, guarded

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


def watch(client, job):
    """Every event of a job, as (its state, what is known of it)."""
    seen = []
    with client.stream("GET", f"/v1/jobs/{job['id']}/events", timeout=240) as events:
        for line in events.iter_lines():
            if line.startswith("data:"):
                seen.append(json.loads(line.removeprefix("data:")))
    return seen


def test_from_photos_to_a_kept_portrait_and_a_clean_end(server, models, folder):
    address, process = server
    with httpx.Client(base_url=address, timeout=30) as client, contextlib.ExitStack() as files:
        photos = [
            ("photos", (name, files.enter_context((models / "demo-photos" / name).open("rb")))) for name in PHOTOS
        ]
        consent = {"name": "Barack", "consent_by": "public domain", "purpose": "tests"}
        answer = client.post("/v1/people", data=consent, files=photos)
        assert answer.status_code == 202, answer.text
        seen = watch(client, answer.json())
        enrolled = seen[-1]
        assert enrolled["state"] == "done", enrolled
        assert len(seen) > 2
        assert enrolled["result"]["photos"] + enrolled["result"]["held_out"] == len(PHOTOS)
        (person,) = client.get("/v1/people").json()["items"]
        assert len(client.get(f"/v1/people/{person['slug']}").json()["pictures"]) == len(PHOTOS)

        asked = {"kind": "make", "people": ["Barack"], "style": "astronaut", "count": 2, "keep": 1, "seed": 7}
        job = client.post("/v1/jobs", json=asked).json()
        seen = watch(client, job)
        made = seen[-1]
        assert made["state"] == "done", made
        assert {"running", "done"} <= {event["state"] for event in seen}
        assert any(event["preview"] for event in seen)
        assert made["result"]["seed"] == 7
        kept = client.get("/v1/portraits", params={"kept": True, "run": job["id"]}).json()["items"]
        assert len(kept) == 1
        verdict = kept[0]["verdicts"][0]
        assert (verdict["call"], verdict["held_out"]) == ("same person", True)
        picture = client.get(kept[0]["picture"])
        assert Image.open(io.BytesIO(picture.content)).size == (512, 512)
        assert client.get(made["preview"]).status_code == 200

        template = (models / "demo-photos" / "biden.jpg").read_bytes()
        upload = client.post("/v1/uploads", files=[("pictures", ("b.jpg", template))]).json()["upload"]
        judged = watch(
            client, client.post("/v1/jobs", json={"kind": "judge", "person": "Barack", "upload": upload}).json()
        )
        (verdict,) = judged[-1]["result"]["portraits"][0]["verdicts"]
        assert verdict["call"] == "someone else"

        long = client.post("/v1/jobs", json={**asked, "count": 500}).json()
        with client.stream("GET", f"/v1/jobs/{long['id']}/events") as events:
            for line in events.iter_lines():
                if line == "event: running":
                    break
            process.send_signal(signal.SIGTERM)  # while somebody watches and a worker paints
            assert process.wait(60) == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}/v1/health")
    from facechain.jobs.presence import Presence

    deadline = time.monotonic() + 30
    while Presence(folder).workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert Presence(folder).workers() == ()
    from facechain import bootstrap

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACECHAIN_WORKSPACE", str(folder))
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
