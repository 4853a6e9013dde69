"""Tensors of a weight file, read so that nothing in it can run."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain.errors import PackError, PackMissing

ALIASES = {"adapter_modules": "ip_adapter", "image_proj_model": "image_proj"}


def read_tensors(path: Path) -> dict[str, Any]:
    """Dotted key -> CPU tensor. Raises PackMissing, or PackError if truncated, unsafe or not a weight file."""
    if not path.is_file():
        raise PackMissing(f"{path.name} is not there.", "Fetch the pack it belongs to.")
    tree = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    flat: dict[str, Any] = {}
    _flatten(tree, "", flat, path)
    return {_renamed(key): value for key, value in flat.items()}


def _renamed(key: str) -> str:
    top, *rest = key.split(".")
    return ".".join([ALIASES.get(top, top), *rest])


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _read_pickle(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        # torch wraps both refusals and damage in its weights-only advice; a refusal names what it would have called.
        if not (called := re.search(r"GLOBAL (\S+)|Trying to call (?:reduce|instantiate) (\S+)", str(error))):
            raise _damaged(path, "its contents are not readable") from None
        raise PackError(
            f"{path.name} holds more than tensors and could run code when opened: {called[1] or called[2]}.",
            "Get it from its publisher, as safetensors if there is one.",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception | str) -> PackError:
    reason = str(error).strip().split("\n")[0][:160]
    return PackError(
        f"{path.name} is cut short or not a weight file ({path.stat().st_size:,} bytes): {reason}.", "Fetch it again."
    )


def _flatten(node: Any, prefix: str, into: dict[str, Any], path: Path) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            _flatten(value, f"{prefix}.{key}" if prefix else str(key), into, path)
    elif hasattr(node, "shape"):
        into[prefix] = node
    else:
        raise PackError(f"{path.name} holds a {type(node).__name__} at {prefix!r}.", "Expected only tensors.")
