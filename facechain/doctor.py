"""What this machine has and lacks, each finding with its next step."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from facechain.bootstrap import CONFIGS, SETS, open_packs, studio
from facechain.config import read_app
from facechain.errors import FaceChainError


@dataclass(frozen=True, kw_only=True)
class Finding:
    ok: bool
    what: str
    next_step: str = ""


def examine() -> tuple[Finding, ...]:
    """Opens no model and no socket."""
    return tuple(
        finding for check in (_python, _opencv, _onnx, _folders, _models, _torch, _base) for finding in check()
    )


def _python() -> Iterable[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(ok=fits, what=f"Python {version}.", next_step="Use Python 3.11, 3.12 or 3.13.")


def _opencv() -> Iterable[Finding]:
    doubled = all(_version(name) for name in ("opencv-python", "opencv-python-headless"))
    yield Finding(
        ok=not doubled,
        what="Two OpenCV packages share one folder." if doubled else "OpenCV is installed once.",
        next_step="pip uninstall opencv-python opencv-python-headless, then run scripts/setup.",
    )


def _onnx() -> Iterable[Finding]:
    both = _version("onnxruntime") and _version("onnxruntime-gpu")
    yield Finding(
        ok=not both,
        what="onnxruntime and onnxruntime-gpu hide each other." if both else "One onnxruntime.",
        next_step="Uninstall both, then install the one this machine needs.",
    )


def _folders() -> Iterable[Finding]:
    app = read_app(CONFIGS)
    for name, folder in (("workspace", Path(app.workspace)), ("models", Path(app.models))):
        there = folder if folder.exists() else next(p for p in folder.absolute().parents if p.exists())
        free_gb = shutil.disk_usage(there).free / 1e9
        writable = os.access(there, os.W_OK)
        yield Finding(
            ok=writable and free_gb > 1,
            what=f"The {name} folder {folder} {'can' if writable else 'cannot'} be written; {free_gb:.0f} GB are free.",
            next_step=f"Set FACECHAIN_{name.upper()} to a folder you may write, with room.",
        )


def _models() -> Iterable[Finding]:
    packs = open_packs()
    for id in SETS["core"]:
        try:
            status = packs.status(id)
            yield Finding(
                ok=status.present and status.verified == "yes",
                what=f"{status.title}: {'here' if status.present else 'not here'}.",
                next_step=f"facechain packs fetch {id}",
            )
        except FaceChainError as error:
            yield Finding(ok=False, what=error.what, next_step=error.next_step)


def _torch() -> Iterable[Finding]:
    version = _version("torch")
    there = "is here" if version else "is not installed; only the diffusion engines need it"
    yield Finding(ok=True, what=f"torch {version} {there}.".replace("  ", " "))
    if version and importlib.util.find_spec("torchvision"):
        yield Finding(ok=True, what="torchvision is installed; if torch fails to import, remove it.")


def _base() -> Iterable[Finding]:
    named, on = read_app(CONFIGS).base, studio().tools.ground("")
    if on.family:
        what = f"Diffusion engines paint on {on.title}. {on.note}".strip()
    else:
        what = (
            on.problem or f"The base {named} cannot be painted on."
            if named
            else "No base is named for the diffusion engines."
        )
    yield Finding(
        ok=bool(on.family) or not named, what=what, next_step="Name another in configs/app.toml, or restore it."
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
