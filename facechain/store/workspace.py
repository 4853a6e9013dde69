"""The workspace: one folder a person, holding everything that is known of them.

    people/<slug>/person.json                     who, consent, which photos are learned from, template embedding
    people/<slug>/photos/<photo id>.<ending>      photos as they came
    people/<slug>/crops/<photo id>.npz            what intake made of them
    people/<slug>/portraits/<run>/<id>.png .json  pictures with their sidecars
    records.sqlite                                an index of all this; may be deleted at any time
    .staging/  .lock                              work under way; one writer at a time

What is in `.staging` is moved into place when it is whole. Whoever holds the lock may delete what is there: its
writer is dead.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from facechain.errors import PersonError, StoreError
from facechain.store import disk
from facechain.store.people import SHEET, PersonSummary, read_person, read_sheet, read_summary, write_person
from facechain.store.portraits import (
    ENDINGS,
    KeptPortrait,
    orphans,
    read_portrait,
    sidecar_bytes,
    sidecars,
    with_verdicts,
)
from facechain.types import Person, Portrait, Verdict

if TYPE_CHECKING:
    from facechain.store.records import Records

__all__ = ["KeptPortrait", "PersonSummary", "Workspace"]


class Workspace:
    """`url` names the records database for SQLAlchemy; by default it is a file in the workspace."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self._people = folder / "people"
        self._staging = folder / ".staging"
        self._url = url
        self._sweep_if_idle()

    # ── people ───────────────────────────────────────────────────────────────────────────────────

    def check_free(self, slug: str) -> None:
        """Raises PersonError when this person is already here."""
        if self._home(slug).exists():
            raise PersonError(
                f"{slug!r} is already in the workspace.",
                f"Choose another name, or remove them first: facechain people forget {slug}",
            )

    def save_person(self, slug: str, person: Person, originals: Sequence[Path]) -> None:
        """Keeps a person, all or nothing. Originals that gave no crop are not kept.

        Raises PersonError when the slug is taken, StoreError when the disk refuses.
        """
        self.check_free(slug)
        with self._writing() as staging:
            self.check_free(slug)
            write_person(staging, person, originals)
            self._people.mkdir(exist_ok=True)
            disk.move(staging, self._home(slug))

    def load_person(self, slug: str) -> Person:
        """Exactly as saved. Raises PersonError when there is nobody of that slug, StoreError for damaged files."""
        return read_person(self._known(slug))

    def list_people(self) -> tuple[PersonSummary, ...]:
        """Everybody, by name."""
        found = [read_summary(home) for home in self._homes()]
        return tuple(sorted(found, key=lambda person: (person.name.casefold(), person.slug)))

    def forget(self, slug: str) -> int:
        """Deletes the person, and every portrait of them wherever it is kept; returns how many portraits.

        Interrupted, it can be run again: the person's own folder goes last.
        """
        self._known(slug)
        with self._writing() as staging:
            home = self._known(slug)
            shown = [sidecar for sidecar in self._sidecars() if slug in _slugs(sidecar)]
            own = sum(home in sidecar.parents for sidecar, _ in sidecars(self._people))
            elsewhere = [sidecar for sidecar in shown if home not in sidecar.parents]
            if records := self._records_if_any():
                records.forget(slug, [sidecar.relative_to(self.folder).as_posix() for sidecar in shown])
            for sidecar in elsewhere:
                for ending in ENDINGS.values():
                    sidecar.with_suffix(ending).unlink(missing_ok=True)
                sidecar.unlink()
            for picture in list(orphans(self._people)):
                picture.unlink()
            staging.rmdir()
            disk.move(home, staging)
            shutil.rmtree(staging)
        return own + len(elsewhere)

    # ── portraits ────────────────────────────────────────────────────────────────────────────────

    def new_run(self, slug: str) -> Path:
        """An empty folder for the portraits of one sitting. Raises PersonError when there is nobody of that slug."""
        self._known(slug)
        with self._writing():
            run = self._known(slug) / "portraits" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            run.mkdir()
            return run

    def save_portrait(
        self,
        run: Path,
        portrait: Portrait,
        verdicts: tuple[Verdict, ...],
        format: str,
        write: Callable[[Path], None],
    ) -> Path:
        """Keeps a picture, which `write` puts where it is told, and then its sidecar; returns the picture's path.

        `format` is "png", "jpeg" or "webp". Raises PersonError when somebody shown is not, or no longer, here.
        """
        if format not in ENDINGS:
            raise StoreError(f"Pictures cannot be kept as {format!r}.", f"Choose one of {', '.join(ENDINGS)}.")
        picture = run / f"{disk.plain(portrait.id)}{ENDINGS[format]}"
        sidecar = picture.with_suffix(".json")
        with self._writing() as staging:
            people = self._shown(run, portrait)
            if sidecar.exists():
                raise StoreError(f"There is already a portrait {portrait.id!r} in {run}.", "Start a new run.")
            write(staging / picture.name)
            details = sidecar_bytes(portrait, people, verdicts, picture.name, datetime.now(UTC))
            disk.write(staging / sidecar.name, details)
            disk.move(staging / picture.name, picture)
            disk.move(staging / sidecar.name, sidecar)
        return picture

    def save_verdicts(self, run: Path, id: str, verdicts: tuple[Verdict, ...]) -> None:
        """Replaces what the judge said of a kept portrait."""
        sidecar = run / f"{disk.plain(id)}.json"
        with self._writing() as staging:
            if not sidecar.exists():
                raise StoreError(f"There is no portrait {id!r} in {run}.", "It may have been forgotten meanwhile.")
            disk.write(staging / sidecar.name, with_verdicts(json.loads(sidecar.read_bytes()), verdicts))
            disk.move(staging / sidecar.name, sidecar)

    def portraits(self, slug: str | None = None) -> tuple[KeptPortrait, ...]:
        """Every kept portrait that shows this person, or all of them; newest first."""
        if slug is not None:
            self._known(slug)
        found = []
        for sidecar in self._sidecars():
            with contextlib.suppress(FileNotFoundError):  # forgotten while we read
                kept = read_portrait(sidecar)
                if slug is None or slug in kept.slugs:
                    found.append(kept)
        return tuple(sorted(found, key=lambda kept: (kept.made, kept.id), reverse=True))

    # ── small things ─────────────────────────────────────────────────────────────────────────────

    def _home(self, slug: str) -> Path:
        home = self._people / disk.plain(slug)
        if home.is_symlink():
            raise StoreError(f"{home} leads out of the workspace.", "Remove that link.")
        return home

    def _homes(self) -> list[Path]:
        return sorted(sheet.parent for sheet in self._people.glob(f"*/{SHEET}"))

    def _known(self, slug: str) -> Path:
        home = self._home(slug)
        if not home.is_dir():
            raise PersonError(f"There is no {slug!r} in the workspace.", "See `facechain people list`, or add them.")
        return home

    def _sidecars(self) -> list[Path]:
        return [sidecar for sidecar, _ in sidecars(self._people)]

    def _shown(self, run: Path, portrait: Portrait) -> dict[str, str]:
        """Slug to name of the people a portrait shows, each given by name or slug."""
        if run.parent.parent.parent != self._people or not run.is_dir():
            raise PersonError(f"{run} is not a folder of this workspace.", "The person may have been forgotten.")
        names = {home.name: read_sheet(home)["name"] for home in self._homes()}
        slugs = {_tidy(name): slug for slug, name in names.items()} | {slug: slug for slug in names}
        shown = {}
        for person in portrait.people:
            slug = slugs.get(_tidy(person))
            if slug is None:
                raise PersonError(f"There is no {person!r} in the workspace.", "They may have been forgotten.")
            shown[slug] = names[slug]
        return shown

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Path]:
        """Holds the workspace alone, with an empty folder to build in; removed if it was not moved into place."""
        with disk.errors(self.folder):
            self._staging.mkdir(parents=True, exist_ok=True)
            with disk.locked(self.folder / ".lock"):
                self._sweep()
                staging = self._staging / secrets.token_hex(8)
                staging.mkdir()
                try:
                    yield staging
                finally:
                    shutil.rmtree(staging, ignore_errors=True)

    def _sweep(self) -> None:
        for left in self._staging.iterdir():
            shutil.rmtree(left, ignore_errors=True)

    def _sweep_if_idle(self) -> None:
        """Clears up after a killed process, unless somebody is writing or we may not."""
        if self._staging.is_dir() and any(self._staging.iterdir()):
            with contextlib.suppress(OSError, StoreError), disk.locked(self.folder / ".lock", patience_seconds=0):
                self._sweep()

    def _records_if_any(self) -> Records | None:
        return None


def _slugs(sidecar: Path) -> list[str]:
    return json.loads(sidecar.read_bytes())["slugs"]


def _tidy(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())
