"""What another machine needs of a person to paint and judge them: everything but their photos and portraits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from facechain.errors import StoreError
from facechain.store.people import SHEET


def pack(home: Path) -> bytes:
    """A zip of the person's sheet, crops and finished trainings."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as parcel:
        for path in _needed(home):
            parcel.write(path, path.relative_to(home).as_posix())
    return made.getvalue()


def unpack(parcel: bytes, home: Path) -> None:
    """Into an empty folder, and nowhere else whatever the names in it say. Raises StoreError for a damaged parcel."""
    try:
        with zipfile.ZipFile(io.BytesIO(parcel)) as given:
            given.extractall(home)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise StoreError(f"The parcel cannot be opened: {error}.", "Send it again.") from error


def _needed(home: Path) -> Iterator[Path]:
    yield home / SHEET
    yield from sorted((home / "crops").glob("*.npz"))
    for result in sorted(home.glob("learned/*/result/result.json")):
        yield result.parents[1] / "job.json"
        yield from sorted(path for path in result.parent.rglob("*") if path.is_file())
