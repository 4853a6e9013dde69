"""What is asked for, what is locked and what the bill of materials says are the same, and every file has a hash."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import sbom  # noqa: E402

LOCK = sbom.LOCK.read_text("utf-8")
PINS = list(sbom.read_lock(LOCK))
ASKED = [ROOT / "requirements.txt", *(ROOT / f"requirements-{extra}.txt" for extra in sbom.EXTRAS)]


@pytest.mark.parametrize("file", ASKED, ids=lambda file: file.stem)
def test_what_is_asked_for_is_locked_at_its_version(file):
    locked = {pin.name: pin for pin in PINS}
    for line in file.read_text("utf-8").splitlines():
        if found := re.match(r"([A-Za-z0-9-]+)==(\S+)", line):
            pin = locked[found[1].lower()]
            assert pin.version == found[2], f"{line}: run `bash scripts/lock`"
            assert f"-r {file.name}" in pin.parents


def test_every_package_has_hashes_and_somebody_who_asks_for_it():
    names = {pin.name for pin in PINS}
    for pin in PINS:
        assert pin.sha256, pin.name
        assert pin.parents, pin.name
        for parent in pin.parents:
            assert parent.startswith("-r ") or parent.split("[")[0] in names, f"{pin.name}: {parent}"


def test_a_lock_with_anything_else_in_it_is_not_read():
    for line in ("--index-url https://example.org", "evil @ https://example.org/evil.whl", "evil>=1"):
        with pytest.raises(ValueError, match="not understood"):
            list(sbom.read_lock(f"{LOCK}{line}\n"))


def test_setup_installs_nothing_that_is_not_asked_for_here():
    """An extra without its place in the lock would stop at the first hash that is missing."""
    extras = {path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.txt")}
    assert extras - {"overrides", "bench"} == set(sbom.EXTRAS)


def test_the_bill_of_materials_is_of_this_lock():
    assert sbom.SBOM.read_text("utf-8") == sbom.written(LOCK), "run `bash scripts/lock`"


def test_the_bill_of_materials_is_whole():
    bill = json.loads(sbom.SBOM.read_text("utf-8"))
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    refs = [component["bom-ref"] for component in bill["components"]]
    assert sorted(refs) == sorted(pin.purl for pin in PINS)
    assert [entry["ref"] for entry in bill["dependencies"]] == ["facechain", *refs]
    assert {ref for entry in bill["dependencies"] for ref in entry["dependsOn"]} == set(refs)
    scopes = {component["name"]: component["scope"] for component in bill["components"]}
    assert (scopes["numpy"], scopes["starlette"], scopes["torch"]) == ("required", "required", "optional")


CALLS = """#!/bin/sh
case "$*" in
  *"config get"*) echo "$LINKS" ;;
  *sys.version_info*) echo cp312 ;;
  *) echo "$*"; for file in "$@"; do case "$file" in *overrides.txt) cat "$file" ;; esac; done ;;
esac
"""


@pytest.mark.parametrize(
    ("extras", "wheel", "backend", "checked"),
    [
        ([], "torch-2.13.0+cpu-cp312-cp312-linux.whl", "cpu", True),
        (["diffusion"], "", "", True),
        (["diffusion"], "torch-2.13.0+cpu-cp311-cp311-linux.whl", "", True),  # of another Python
        (["diffusion"], "torch-2.13.0+cpu-cp312-cp312-linux.whl", "", False),
        (["lab"], "", "cpu", False),
    ],
)
def test_only_a_torch_of_another_build_is_not_checked_and_that_is_said(tmp_path, extras, wheel, backend, checked):
    python = tmp_path / "python"
    python.write_text(CALLS)
    python.chmod(0o755)
    if wheel:
        (tmp_path / wheel).touch()
    env = {"PATH": os.environ["PATH"], "LINKS": str(tmp_path)} | ({"UV_TORCH_BACKEND": backend} if backend else {})
    done = subprocess.run(
        ["bash", "scripts/install_locked", str(python), *extras],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    installs = [line for line in done.stdout.splitlines() if " install " in line]
    unchecked = [line for line in installs if "--require-hashes" not in line]
    assert ("its hash is not checked" in done.stdout) == (not checked)
    assert [line.split()[-1] for line in unchecked] == [] if checked else ["torch==2.13.0"]
    assert ('torch ; sys_platform == "never"' in done.stdout) == (not checked)
    assert "--constraints requirements.lock" in installs[-1]


def test_the_image_has_a_digest_or_a_way_to_one():
    (base,) = re.findall(r"^FROM (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert re.fullmatch(r"python:3\.12-slim(@sha256:[0-9a-f]{64})?", base)
