"""What ships the app names only what is there: the image, the compose file and the head of the README."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")


def _instructions(name):
    return [line.partition(" ")[2] for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


def test_the_image_is_built_of_what_is_there_and_let_in():
    let_in = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    sources = [source for line in _instructions("COPY") for source in shlex.split(line)[:-1]]
    assert {"facechain", "configs", "webui.py"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in let_in, source


def test_the_image_runs_without_rights_and_says_how_it_is():
    (user,), (volume,), (checked,) = _instructions("USER"), _instructions("VOLUME"), _instructions("HEALTHCHECK")
    assert user not in ("root", "0")
    (settings,) = _instructions("ENV")
    for name in ("FACECHAIN_WORKSPACE", "FACECHAIN_MODELS"):
        assert f"{name}={volume}/" in settings
    from facechain.api.gate import OPEN

    assert f"http://127.0.0.1:7860{OPEN}" in checked  # answered without a token
    assert _instructions("EXPOSE") == ["7860"]


@pytest.mark.parametrize(
    ("device", "installs"),
    [("cpu", "python"), ("cuda", "python diffusion"), ("cpu-diffusion", "python diffusion cpu"), ("tpu", "")],
)
def test_the_image_installs_for_a_device_or_refuses_it(device, installs, tmp_path):
    """The build's own line, with a bash that only says what it was given."""
    (line,) = [line for line in _instructions("RUN") if "$DEVICE" in line]
    for name in ("bash", "python"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$@" $UV_TORCH_BACKEND\n')
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device}
    done = subprocess.run(["sh", "-c", line], env=env, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout.replace(f"{tmp_path}/", "").strip()
    assert said == (f"scripts/install_locked {installs}" if installs else "")
    assert (done.returncode == 0) == bool(installs)
    assert ("cpu-diffusion" in done.stderr) == (not installs)  # says what there is


def test_compose_keeps_to_this_machine():
    made = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    for name, service in made["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert [volume.split(":")[1] for volume in service["volumes"]] == _instructions("VOLUME")
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(made["volumes"])
        assert {"mem_limit", "memswap_limit", "pids_limit"} <= service.keys(), name
    assert made["services"]["gpu"]["build"]["args"] == {"DEVICE": "cuda"}


def test_a_space_runs_what_the_readme_says():
    head = yaml.safe_load((ROOT / "README.md").read_text("utf-8").split("---\n")[1])
    assert (head["sdk"], head["license"]) == ("gradio", "apache-2.0")
    assert (ROOT / head["app_file"]).exists()
    needs = (ROOT / "requirements.txt").read_text()
    assert f"gradio=={head['sdk_version']}" in needs
    assert "torch" not in needs  # what the free tier installs
    assert head["python_version"] in ("3.11", "3.12", "3.13")


def test_the_app_opens_without_anything_heavy():
    """What opens models is imported by the first job, in a worker."""
    heavy = "{'torch', 'diffusers', 'transformers', 'onnxruntime', 'dlib', 'ai_edge_litert'}"
    code = f"import sys, facechain.ui.app, facechain.ui.serve; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
