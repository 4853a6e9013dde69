"""What of a person or a workspace goes into an archive, and what must be true of a person who comes out of one.

A person: consent, photos, crops, finished trainings, and the portraits that show nobody else, for the others in a
picture have not agreed to go along. A workspace: all people and their portraits, of its users too, and who the users
are. Jobs, uploads, logs and the index stay behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from PIL import Image

from facechain import disk
from facechain.config import build
from facechain.errors import ArchiveError, ConfigError, StoreError
from facechain.store.archive import is_plain_path
from facechain.store.people import SHEET, read_person, read_sheet
from facechain.store.portraits import ENDINGS, read_portrait, with_verdicts
from facechain.types import Call, Person, Verdict

USERS = "users.json"

_PERSON = (
    (SHEET,),
    ("photos", "*"),
    ("crops", "*.npz"),
    ("learned", "*", "job.json"),
    ("learned", "*", "curve.json"),
    ("learned", "*", "result", "*"),
    *(("portraits", "*", f"*{ending}") for ending in (".json", *ENDINGS.values())),
)
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}


# ── what goes in ─────────────────────────────────────────────────────────────────────────────────


def person_files(home: Path, *, complete: bool) -> Iterator[str]:
    """Paths from the person's folder, person.json first; unless `complete`, only what painting and judging need."""
    found = [home / SHEET, *sorted((home / "crops").iterdir())]
    for result in sorted(home.glob("learned/*/result/result.json")):
        training = result.parents[1]
        found += [training / "job.json", training / "curve.json", *sorted(result.parent.iterdir())]
    if complete:
        found += sorted((home / "photos").iterdir())
        for sidecar in sorted(home.glob("portraits/*/*.json")):
            portrait = read_portrait(sidecar)
            if portrait.slugs == (home.name,) and portrait.path.is_file():
                found += [sidecar, portrait.path]
    for path in found:
        name = path.relative_to(home).as_posix()
        if path.is_file() and not path.is_symlink() and is_person_path(name):
            yield name


def workspace_files(folder: Path) -> Iterator[str]:
    """Paths from the workspace."""
    homes = [folder / "people", *sorted((folder / "users").glob("*/people"))]
    for home in homes:
        for place, folders, names in os.walk(home):
            folders.sort()
            for name in sorted(names):
                path = Path(place) / name
                shown = path.relative_to(folder).as_posix()
                if not path.is_symlink() and is_workspace_path(shown):
                    yield shown
    if (folder / USERS).is_file():
        yield USERS


def is_person_path(path: str) -> bool:
    parts = path.split("/")
    return is_plain_path(path) and any(
        len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern)) for pattern in _PERSON
    )


def is_workspace_path(path: str) -> bool:
    if path == USERS:
        return True
    parts = path.split("/")
    inside = parts[2:] if parts[0] == "users" else parts
    return is_plain_path(path) and inside[:1] == ["people"] and len(inside) >= 3


# ── what comes out ───────────────────────────────────────────────────────────────────────────────


def add_folders(home: Path) -> None:
    """Those of a person that were empty, which an archive does not hold."""
    for folder in ("photos", "crops", "portraits"):
        (home / folder).mkdir(exist_ok=True)


def adopt(home: Path, name: str, slug_of: Callable[[str], str]) -> tuple[str, Person]:
    """Checks all of an imported person and gives them a name, "" keeping their own; returns their slug too.

    Raises ArchiveError for whatever cannot be read, or shows others.
    """
    add_folders(home)
    try:
        sheet = read_sheet(home)
        name = name or sheet["name"]
        slug = slug_of(name)
        disk.write(home / SHEET, json.dumps({**sheet, "name": name}, indent=1).encode())
        person = read_person(home)
    except (StoreError, KeyError, TypeError) as error:
        raise _unreadable("person") from error
    for sidecar in sorted(home.glob("portraits/*/*.json")):
        _adopt_portrait(sidecar, name, slug)
    for picture in home.glob("portraits/*/*"):
        if not picture.with_suffix(".json").exists():
            raise _unreadable(f"portrait {picture.name}")
    return slug, person


def _adopt_portrait(sidecar: Path, name: str, slug: str) -> None:
    try:
        values = json.loads(sidecar.read_bytes())
        portrait = read_portrait(sidecar)
        verdicts = tuple(
            build(Verdict, {**verdict, "call": Call(verdict["call"]), "person": name}, "the verdict")
            for verdict in values["verdicts"]
        )
        with Image.open(portrait.path, formats=[_FORMATS[portrait.path.suffix]]):
            pass
        sound = portrait.id == sidecar.name.removesuffix(".json") and isinstance(portrait.recipe, dict)
    except (StoreError, ConfigError, OSError, KeyError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(f"portrait {sidecar.stem}") from error
    if not sound or len(portrait.people) != 1 or len(verdicts) != 1:
        raise _unreadable(f"portrait {sidecar.stem}")
    disk.write(sidecar, with_verdicts({**values, "people": [name], "slugs": [slug]}, verdicts))


def _unreadable(what: str) -> ArchiveError:
    return ArchiveError(f"The archive's {what} cannot be read.", "Ask for an export made anew.")
