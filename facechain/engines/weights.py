"""Weight files and the configurations beside them, read so that nothing in them can run.

safetensors, and PyTorch's pickles through its weights-only reader. What is damaged is refused by its file's name.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain.errors import PackError, PackMissing

SAFETENSORS = ".safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_LONGEST_HEADER = 100_000_000  # bytes; as the safetensors library has it
_LFS = b"version https://git-lfs"


def read_tensors(path: Path) -> dict[str, Any]:
    """Dotted key -> CPU tensor. Raises PackMissing, or PackError if cut short, unsafe or not a weight file."""
    header = read_header(path)
    if header is None:
        return _flat(_read_pickle(path, "cpu"), path)
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # a header that promises what is not there
        raise _damaged(path, error) from None


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Dotted key -> shape, without reading the tensors. Raises as `read_tensors` does."""
    header = read_header(path)
    if header is None:
        return {key: tuple(tensor.shape) for key, tensor in _flat(_read_pickle(path, "meta"), path).items()}
    return {key: tuple(entry["shape"]) for key, entry in header.items() if key != "__metadata__"}


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file, found to agree with the file's length; None for a PyTorch pickle."""
    if not path.is_file():
        raise PackMissing(f"{path.name} is not there.", "Fetch it, or correct its name.")
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
            size = path.stat().st_size
            _refuse_others(path, start)
            if path.suffix != SAFETENSORS:
                return None
            file.seek(0)
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError, struct.error) as error:
        raise _damaged(path, error) from None
    try:
        entries = [entry for key, entry in header.items() if key != "__metadata__"]
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries), default=0)
        assert all(isinstance(side, int) for entry in entries for side in entry["shape"])
    except (AttributeError, AssertionError, KeyError, IndexError, TypeError):
        raise _damaged(path, "its header does not list tensors") from None
    if size < end:
        raise PackError(f"{path.name} is cut short: {size:,} of {end:,} bytes are there.", "Download it again.")
    return header


def read_config(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises PackMissing, or PackError naming the file."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PackMissing(f"{_place(path)} is not there.", "Download the folder again.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PackError(f"{_place(path)} is not JSON: {_first_line(error)}.", "Download it again.") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise PackError(f"{_place(path)} holds a {kind} where a mapping is expected.", "Download it again.")
    return values


def weight_files(folder: Path, stem: str) -> tuple[Path, ...]:
    """The file that holds a network's weights in a diffusers or transformers folder, or its shards; () for none.

    Whole precision comes before a variant such as fp16, safetensors before pickles. Raises PackError when the shards
    in the folder are not those of their index.
    """
    for suffix in (SAFETENSORS, ".bin"):
        for file in _variants(folder, stem, suffix):
            return (file,)
        for index in _variants(folder, stem, f"{suffix}.index", ".json"):
            return _shards(folder, index, suffix)
    return ()


def _variants(folder: Path, stem: str, suffix: str, ending: str = "") -> list[Path]:
    """`stem.safetensors`, then `stem.fp16.safetensors` and the like; the variant of an index may stand behind it."""
    plain = folder / f"{stem}{suffix}{ending}"
    found = {*folder.glob(f"{stem}.*{suffix}{ending}"), *(folder.glob(f"{stem}{suffix}.*{ending}") if ending else ())}
    variants = sorted(
        (f for f in found if "-of-" not in f.name), key=lambda file: (".fp16." not in file.name, file.name)
    )
    return [*([plain] if plain.is_file() else []), *(file for file in variants if file != plain)]


def _shards(folder: Path, index: Path, suffix: str) -> tuple[Path, ...]:
    named = read_config(index).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise PackError(f"{_place(index)} does not say which shard holds what.", "Download it again.")
    names = sorted({Path(name).name for name in named.values()})
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise PackError(
            f"{folder.name} lacks {len(missing)} of {len(names)} shards: {', '.join(missing[:3])}.", "Download them."
        )
    stem = names[0].rpartition("-of-")[0].rpartition("-")[0]
    there = {file.name for file in folder.glob(f"{stem}-*-of-*{suffix}")}
    if surplus := sorted(there - set(names)):
        raise PackError(
            f"{folder.name} has shards that {index.name} does not name: {', '.join(surplus[:3])}.",
            "Remove those of another version, or download the folder again.",
        )
    return tuple(folder / name for name in names)


def check_finite(tensors: Mapping[str, Any], path: Path) -> None:
    """Raises PackError for NaN or infinity: every picture would be black. Reads each number once."""
    import torch

    for key, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            if tensor.dtype.itemsize == 1:  # fp8 has no reductions
                tensor = tensor.float()
            if not all(torch.isfinite(bound) for bound in torch.aminmax(tensor)):
                raise PackError(f"{path.name} has NaN or infinity in {key}.", "Download it again, or choose another.")


def _refuse_others(path: Path, start: bytes) -> None:
    if start.startswith(_LFS):
        raise PackError(
            f"{path.name} is a Git LFS pointer, not the weights themselves.",
            "Run `git lfs pull` where it was cloned, or download the file itself.",
        )
    if start.lstrip().startswith(b"<"):
        raise PackError(
            f"{path.name} is a web page, not weights.", "Download the file itself; its publisher may ask for a login."
        )
    if path.suffix not in (SAFETENSORS, *PICKLES):
        raise PackError(f"{path.name} is not a weight file.", f"Known: {', '.join((SAFETENSORS, *PICKLES))}.")


def _read_pickle(path: Path, place: str) -> Any:
    import torch

    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        tree = torch.load(path, map_location=place, weights_only=True, mmap=zipped and place == "cpu")
    except pickle.UnpicklingError as error:
        # torch wraps both refusals and damage in its weights-only advice; a refusal names what it would have called.
        if not (called := re.search(r"GLOBAL (\S+)|Trying to call (?:reduce|instantiate) (\S+)", str(error))):
            raise _damaged(path, "its contents are not readable") from None
        raise PackError(
            f"{path.name} holds more than tensors and could run code when opened: {called[1] or called[2]}.",
            "Get it from its publisher as .safetensors, or convert it.",
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        raise _damaged(path, error) from None
    whole = tree.get("state_dict") if isinstance(tree, Mapping) else None
    return whole if isinstance(whole, Mapping) else tree  # training programs keep their own state beside the weights


def _flat(node: Any, path: Path, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping):
        made: dict[str, Any] = {}
        for key, value in node.items():
            made |= _flat(value, path, f"{prefix}.{key}" if prefix else str(key))
        return made
    if not hasattr(node, "shape"):
        raise PackError(f"{path.name} holds a {type(node).__name__} at {prefix!r}.", "Expected only tensors.")
    return {prefix: node}


def _damaged(path: Path, error: Exception | str) -> PackError:
    return PackError(
        f"{path.name} is cut short or not a weight file ({path.stat().st_size:,} bytes): {_first_line(error)}.",
        "Download it again.",
    )


def _first_line(error: Exception | str) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:160].rstrip(".")


def _place(path: Path) -> str:
    """With its folder: every part of a base has a file of that name."""
    return f"{path.parent.name}/{path.name}"
