"""Whole checkpoints or none, and starting again from the last one."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

_NAME = re.compile(r"step-(\d{6,})")


def save(folder: Path, step: int, tensors: dict[str, Any], optimizer: dict[str, Any], notes: dict[str, Any]) -> Path:
    """step-000100/ with adapters.safetensors, optimizer.pt and notes.json: built beside, synced, then renamed."""
    import torch
    from safetensors.torch import save_file

    sweep(folder)
    part = folder / f".part-{os.getpid()}"
    folder.mkdir(exist_ok=True)  # not its parents: whoever deleted those wants nothing here
    part.mkdir()
    save_file({name: value.contiguous() for name, value in tensors.items()}, part / "adapters.safetensors")
    torch.save(optimizer, part / "optimizer.pt")
    (part / "notes.json").write_text(json.dumps({**notes, "step": step}), "utf-8")
    for path in (*part.iterdir(), part):
        _sync(path)
    final = folder / f"step-{step:06d}"
    if final.exists():
        shutil.rmtree(final)
    part.rename(final)
    _sync(folder)
    return final


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(tensors, optimizer state, notes) of one checkpoint; nothing in it can run code."""
    import torch
    from safetensors.torch import load_file

    notes = json.loads((folder / "notes.json").read_text("utf-8"))
    optimizer = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    return load_file(folder / "adapters.safetensors"), optimizer, notes


def listed(folder: Path) -> list[Path]:
    """From first to last step."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and (path / "notes.json").is_file()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def thin(folder: Path, keep: int) -> None:
    """Only the last `keep` stay."""
    for path in listed(folder)[:-keep]:
        shutil.rmtree(path)


def sweep(folder: Path) -> None:
    """What an interrupted save left behind."""
    for path in folder.glob(".part-*"):
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
