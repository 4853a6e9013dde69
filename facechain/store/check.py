"""Everything in a workspace read once: what is damaged, and what to do about each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from facechain.errors import StoreError
from facechain.protocols import Tick
from facechain.store.people import SHEET, read_person
from facechain.store.portraits import ENDINGS, read_portrait

_FORGET = "Remove the person with `facechain people forget {slug}`, or restore the file from a backup."
_DELETE = "Delete it, or restore it from a backup."


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something damaged; `path` is relative to the workspace."""

    path: str
    what: str
    next_step: str


def examine(folder: Path, tick: Tick) -> Iterator[Finding]:
    """What is wrong with the people, photos, portraits and trainings of a workspace; files are only read."""
    homes = sorted(path for path in (folder / "people").glob("*") if path.is_dir() and not path.is_symlink())
    slugs = {home.name for home in homes}
    for done, home in enumerate(homes):
        tick("checking", done, len(homes))
        for path, what, next_step in _person(home, slugs):
            yield Finding(path=path.relative_to(folder).as_posix(), what=what, next_step=next_step)
    tick("checking", len(homes), len(homes))


def _person(home: Path, slugs: set[str]) -> Iterator[tuple[Path, str, str]]:
    forget = _FORGET.format(slug=home.name)
    try:
        read_person(home)
    except StoreError as error:
        why = error.__cause__ or error
        yield home / SHEET, f"The person cannot be read: {type(why).__name__}: {why}.", forget
    for photo in sorted((home / "photos").glob("*")):
        if _digest(photo) != photo.stem:
            yield photo, "The photo is not the one that was enrolled: its SHA-256 differs from its name.", forget
    for sidecar in sorted(home.glob("portraits/*/*.json")):
        yield from _portrait(sidecar, slugs)
    for picture in sorted(home.glob("portraits/*/*")):
        if picture.suffix in ENDINGS.values() and not picture.with_name(f"{picture.stem}.json").exists():
            yield picture, "The picture has no sidecar, so nobody knows whom it shows.", _DELETE
    for weights in sorted(home.glob("learned/*/result/*.safetensors")):
        if why := _safetensors(weights):
            yield weights, why, "Delete the training's folder, then train again."


def _portrait(sidecar: Path, slugs: set[str]) -> Iterator[tuple[Path, str, str]]:
    try:
        portrait = read_portrait(sidecar)
    except StoreError as error:
        yield sidecar, f"The sidecar cannot be read: {error.__cause__ or error}.", _DELETE
        return
    for slug in portrait.slugs:
        if slug not in slugs:
            yield sidecar, f"It shows {slug!r}, who is not in the workspace.", "Delete the portrait."
    try:
        with Image.open(portrait.path) as picture:
            picture.load()
    except FileNotFoundError:
        yield sidecar, "Its picture is missing.", _DELETE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        yield portrait.path, f"The picture cannot be decoded: {error}.", _DELETE


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _safetensors(path: Path) -> str:
    """Why the weights cannot be whole; "" when header and length agree."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(header_bytes, size)))
        tensors = [about for name, about in header.items() if name != "__metadata__"]
        expected = 8 + header_bytes + max((about["data_offsets"][1] for about in tensors), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"The weights cannot be read: {type(error).__name__}: {error}."
    return "" if size == expected else f"The weights have {size:,} bytes, expected {expected:,}."
