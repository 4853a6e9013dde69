"""A kept portrait: a picture and, beside it, a sidecar that says how it was made and judged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from facechain.errors import StoreError
from facechain.types import Portrait, Verdict

ENDINGS: Mapping[str, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptPortrait:
    id: str
    path: Path  # of the picture
    slug: str  # whose folder it is in
    run: str
    made: datetime
    people: tuple[str, ...]
    slugs: tuple[str, ...]  # the folders of those people
    slots: tuple[int, ...]
    recipe: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]

    @property
    def key(self) -> str:
        """Names this portrait among all of a workspace."""
        return f"{self.slug}/{self.run}/{self.id}"


def sidecar_bytes(
    portrait: Portrait, people: Mapping[str, str], verdicts: tuple[Verdict, ...], picture: str, made: datetime
) -> bytes:
    """`people` are the names of the people shown, by slug."""
    sidecar = {
        "id": portrait.id,
        "picture": picture,
        "made": made.isoformat(),
        "people": list(people.values()),
        "slugs": list(people),
        "slots": list(portrait.slots),
        "recipe": dict(portrait.recipe),
    }
    return with_verdicts(sidecar, verdicts)


def with_verdicts(sidecar: Mapping[str, Any], verdicts: tuple[Verdict, ...]) -> bytes:
    judged = [asdict(verdict) for verdict in verdicts]
    return json.dumps({**sidecar, "verdicts": judged}, indent=1, default=lambda number: number.item()).encode()


def read_portrait(sidecar: Path) -> KeptPortrait:
    """Raises StoreError when it is not what `sidecar_bytes` wrote."""
    try:
        values = json.loads(sidecar.read_bytes())
        return KeptPortrait(
            id=values["id"],
            path=sidecar.with_name(Path(values["picture"]).name),
            slug=sidecar.parents[2].name,
            run=sidecar.parent.name,
            made=datetime.fromisoformat(values["made"]),
            people=tuple(values["people"]),
            slugs=tuple(values["slugs"]),
            slots=tuple(values["slots"]),
            recipe=values["recipe"],
            verdicts=tuple(map(Verdict.read, values["verdicts"])),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{sidecar} is damaged.", "Delete it and the picture beside it.") from error


def may_show(sidecar: Path, slug: str) -> bool:
    """Whether the picture shows this person, as far as is known: a damaged sidecar may have named anybody."""
    try:
        return slug in json.loads(sidecar.read_bytes())["slugs"]
    except (OSError, KeyError, TypeError, ValueError):
        return True


def sidecars(people: Path) -> Iterator[tuple[Path, str]]:
    """Every portrait's sidecar, and a stamp that changes when it does; only those whose picture is there."""
    for run in people.glob("*/portraits/*/"):
        entries = {entry.name: entry for entry in os.scandir(run)}
        for name, entry in entries.items():
            stem, ending = os.path.splitext(name)  # noqa: PTH122 - names, not paths
            if ending == ".json" and any(stem + picture in entries for picture in ENDINGS.values()):
                status = entry.stat()
                yield run / name, f"{status.st_mtime_ns}-{status.st_size}"


def orphans(people: Path) -> Iterator[Path]:
    """Pictures without a sidecar: whoever wrote them was killed in between, and nobody knows whom they show."""
    for picture in people.glob("*/portraits/*/*"):
        if picture.suffix in ENDINGS.values() and not picture.with_suffix(".json").exists():
            yield picture
