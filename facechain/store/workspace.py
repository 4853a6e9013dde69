"""The workspace: one folder a person, holding everything that is known of them.

people/<slug>/person.json                     who, consent, which photos are learned from, template embedding
people/<slug>/photos/<photo id>.<ending>      photos as they came
people/<slug>/crops/<photo id>.npz            what intake made of them
people/<slug>/portraits/<run>/<id>.png .json  pictures with their sidecars
signing.key                                   signs exports and backups; made when first needed, never exported
records.sqlite                                an index of all this; may be deleted at any time
.forgotten.json                               who was forgotten lately, as keyed hashes
.staging/<marks>.<token>/ and .lock           being built; moved into place when whole, swept when its lock is free
.lock                                         held by whoever changes any of the above

Folders are the user's alone (0700), and so are files (0600). What is damaged is listed by `damaged` and left where it
is: nothing that concerns others stops for it, and `forget` deletes it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from facechain import disk
from facechain.errors import Conflict, Missing, PersonError, PersonExists, PersonMissing, StoreError, UserError
from facechain.protocols import Tick, silent
from facechain.store.learned import Training, newest_training
from facechain.store.people import (
    SHEET,
    KeptPhoto,
    PersonSummary,
    described,
    photo_ids,
    photo_names,
    read_crop_png,
    read_name,
    read_person,
    read_photos,
    read_summary,
    write_person,
)
from facechain.store.portraits import (
    ENDINGS,
    KeptPortrait,
    may_show,
    orphans,
    read_portrait,
    sidecar_bytes,
    with_verdicts,
)
from facechain.store.tombstones import Tombstones
from facechain.types import Person, Portrait, Tag, Verdict

if TYPE_CHECKING:
    from nacl.signing import SigningKey

    from facechain.store.check import Finding
    from facechain.store.records import Records

__all__ = ["Damaged", "ImportedPerson", "KeptPhoto", "KeptPortrait", "PersonSummary", "Traces", "Training", "Workspace"]

# Of a workspace, including what jobs and doors keep in it.
_OURS = (
    *("people", "users", "uploads", "drops", ".staging", ".jobs", ".lock", ".users.lock"),
    *("*.sqlite*", ".forgotten.json*", "users.json", "signing.key"),
)


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """Files of somebody that cannot be read."""

    slug: str  # whose folder they are in
    what: str
    next_step: str


@dataclass(frozen=True, kw_only=True)
class Traces:
    """How a person's photos may be named elsewhere."""

    names: frozenset[str]  # the person's, as slug and as written
    photo_ids: frozenset[str]
    photo_names: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class ImportedPerson:
    person: PersonSummary
    signer: str  # fingerprint of the key the archive was signed with
    own: bool  # whether that is this workspace's own key


class Workspace:
    """`url` names the records database for SQLAlchemy; by default it is a file in the workspace."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self._people = folder / "people"
        self._staging = folder / ".staging"
        self._database = folder / "records.sqlite"
        self._url = url
        self._tombstones = Tombstones(folder / ".forgotten.json")
        self._make_private()
        self._sweep_if_idle()

    # ── people ───────────────────────────────────────────────────────────────────────────────────

    def generation(self) -> str:
        """To be taken when work begins that will store something of a person, and given back as `since` then."""
        with contextlib.suppress(ValueError):
            return self._tombstones.generation(create=False)
        with self._alone():
            return self._tombstones.generation()

    def check_present(self, slugs: Collection[str], since: str) -> None:
        """Raises PersonForgotten when somebody was forgotten after the generation `since`."""
        for slug in slugs:
            self._tombstones.check(slug, since)

    @contextlib.contextmanager
    def under_way(self, slugs: Collection[str], since: str) -> Iterator[None]:
        """For work about people: what breaks because they were forgotten meanwhile raises PersonForgotten."""
        try:
            yield
        except (OSError, UserError):
            self.check_present(slugs, since)
            raise

    def has(self, slug: str) -> bool:
        return self._home(slug).exists()

    def check_free(self, slug: str, since: str = "") -> None:
        """Raises PersonExists when this person is here, PersonForgotten when they were forgotten after `since`."""
        if since:
            self._tombstones.check(slug, since)
        if self._home(slug).exists():
            raise PersonExists(
                f"{slug!r} is already in the workspace.",
                f"Choose another name, or remove them first: facechain people forget {slug}",
            )

    def save_person(self, slug: str, person: Person, originals: Sequence[Path], since: str = "") -> None:
        """Keeps a person, all or nothing. Originals that gave no crop are not kept.

        `since` is the generation of when the work on them began, by default now. Raises PersonExists when the slug is
        taken, PersonForgotten when they were forgotten since, StoreError when the disk refuses.
        """
        self._add(slug, since, lambda staging: write_person(staging, person, originals))

    def load_person(self, slug: str) -> Person:
        """Exactly as saved. Raises PersonError when there is nobody of that slug, StoreError for damaged files."""
        return read_person(self._known(slug))

    def list_people(self) -> tuple[PersonSummary, ...]:
        """Everybody whose files can be read, by name; the others are in `damaged_people`."""
        found = []
        for home in self._homes():
            with contextlib.suppress(StoreError):
                found.append(read_summary(home))
        return tuple(sorted(found, key=lambda person: (person.name.casefold(), person.slug)))

    def damaged_people(self) -> tuple[Damaged, ...]:
        """By slug."""
        found = []
        for home in self._homes():
            try:
                read_summary(home)
            except StoreError as error:
                found.append(Damaged(slug=home.name, what=error.what, next_step=error.next_step))
        return tuple(found)

    def damaged_portraits(self) -> tuple[Damaged, ...]:
        """Portraits whose sidecar cannot be read; reads every one."""
        found = []
        for sidecar in sorted(self._people.glob("*/portraits/*/*.json")):
            try:
                read_portrait(sidecar)
            except StoreError as error:
                found.append(Damaged(slug=sidecar.parents[2].name, what=error.what, next_step=error.next_step))
        return tuple(found)

    def photos(self, slug: str) -> tuple[KeptPhoto, ...]:
        """What is known of each photo of a person, without its pixels."""
        return read_photos(self._known(slug))

    def crop_png(self, slug: str, photo_id: str) -> bytes:
        return read_crop_png(self._known(slug), photo_id)

    def describe_photo(self, slug: str, photo_id: str, caption: str, tags: tuple[Tag, ...]) -> None:
        """Another caption and other tags for a photo. Raises PersonError when there is no such photo or person."""
        home = self._known(slug)
        with self._building() as staging, self._alone():
            disk.write(staging / "crop.npz", described(home, photo_id, caption, tags))
            disk.move(staging / "crop.npz", home / "crops" / f"{disk.plain(photo_id)}.npz")

    def forget(self, slug: str) -> int:
        """Deletes the person, and every portrait of them wherever it is kept; returns how many portraits.

        What is under way about them is stored no more. Nothing damaged stops it, nor a full disk: the index, which can
        be made anew, is deleted where it cannot be changed. A portrait that cannot be read may show anybody and goes
        too. Interrupted, it can be run again: the person's own folder goes last. Raises PersonMissing for nobody.
        """
        home = self._home(slug)
        with self._alone():
            marked = self._mark_forgotten(slug)
            self._known(slug)
            portraits = 0
            for sidecar in list(self._people.glob("*/portraits/*/*.json")):
                own = home in sidecar.parents
                if own or may_show(sidecar, slug):
                    pictures = [sidecar.with_suffix(ending) for ending in ENDINGS.values()]
                    portraits += any(picture.exists() for picture in pictures)
                    for path in () if own else (*pictures, sidecar):
                        path.unlink(missing_ok=True)
            for picture in list(orphans(self._people)):
                picture.unlink()
            self._forget_in_index(slug)
            self._delete(home)
            if not marked:  # there was no room before
                self._tombstones.add(slug)
        return portraits

    def traces(self, slug: str) -> Traces:
        """As far as the files can be read."""
        home, names = self._home(slug), {slug}
        with contextlib.suppress(StoreError):
            names.add(read_name(home))
        return Traces(
            names=frozenset(names), photo_ids=frozenset(photo_ids(home)), photo_names=frozenset(photo_names(home))
        )

    def learned(self, slug: str) -> Path:
        """Where engines keep what they learned of the person; it goes when they are forgotten."""
        return self._known(slug) / "learned"

    def training(self, slug: str) -> Training | None:
        """The newest training of the person, as far as it has come. None when there was none."""
        return newest_training(self.learned(slug))

    def export_person(
        self, slug: str, *, passphrase: str = "", complete: bool = True, tick: Tick = silent
    ) -> Iterator[bytes]:
        """A signed archive of the person, chunk by chunk; without photos and portraits unless `complete`.

        Raises PersonMissing and ArchiveError (for a short passphrase) at once, Conflict when the person is changed or
        forgotten meanwhile.
        """
        from facechain.store import archive, bundle

        home = self._known(slug)
        return archive.pack(
            "person", home, bundle.person_files(home, complete=complete), self._signing_key(), passphrase, tick
        )

    def import_person(
        self,
        source: IO[bytes],
        *,
        name: str = "",
        slug_of: Callable[[str], str],
        check: Callable[[Person], object],
        trusted: Callable[[str], bool] = lambda fingerprint: False,
        passphrase: str = "",
        tick: Tick = silent,
    ) -> ImportedPerson:
        """Keeps the person of an archive, all or nothing, under their own name or another.

        `check` may raise to refuse the person; `trusted` says whose archives are taken besides our own, by the key's
        fingerprint. Raises ArchiveError, SignerUnknown or PersonExists.
        """
        from facechain.store import archive, bundle, signing

        own, since = signing.own_fingerprint(self.folder), self.generation()
        with self._building() as staging:
            manifest = archive.unpack(
                source,
                staging,
                "person",
                allowed=bundle.is_person_path,
                trusted=lambda signer: signer == own or trusted(signer),
                passphrase=passphrase,
                tick=tick,
            )
            slug, person = bundle.adopt(staging, name, slug_of)
            check(person)
            with self._alone():
                self.check_free(slug, since)
                self._people.mkdir(mode=0o700, exist_ok=True)
                disk.move(staging, self._home(slug))
                summary = read_summary(self._home(slug))
        return ImportedPerson(person=summary, signer=manifest.signer, own=manifest.signer == own)

    # ── portraits ────────────────────────────────────────────────────────────────────────────────

    def check_format(self, format: str) -> None:
        """Raises StoreError unless it is "png", "jpeg" or "webp"."""
        if format not in ENDINGS:
            raise StoreError(f"Pictures cannot be kept as {format!r}.", f"Choose one of {', '.join(ENDINGS)}.")

    def new_run(self, slug: str, name: str = "") -> Path:
        """A folder for the portraits of one sitting: empty, or the one of this name.

        Raises PersonError when there is nobody of that slug.
        """
        self._known(slug)
        with self._alone():
            named = disk.plain(name) if name else f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            run = self._known(slug) / "portraits" / named
            run.mkdir(mode=0o700, exist_ok=bool(name))
            disk.sync(run.parent)  # or a power cut could take the folder, and with it what is in it
            return run

    def run(self, folder: Path) -> tuple[KeptPortrait, ...]:
        """The portraits of one run that can be read, by id; read from its folder."""
        kept = []
        for sidecar in sorted(folder.glob("*.json")):
            with contextlib.suppress(StoreError):
                kept.append(read_portrait(sidecar))
        return tuple(portrait for portrait in kept if portrait.path.exists())

    def save_portrait(
        self,
        run: Path,
        portrait: Portrait,
        verdicts: tuple[Verdict, ...],
        format: str,
        write: Callable[[Path], None],
        since: str = "",
    ) -> Path:
        """Keeps a picture, which `write` puts where it is told, and then its sidecar; returns the picture's path.

        `format` is "png", "jpeg" or "webp"; `since` is the generation of when the people shown were read, by default
        now. Raises PersonMissing or PersonForgotten when somebody shown is not, or no longer, here.
        """
        self.check_format(format)
        picture = run / f"{disk.plain(portrait.id)}{ENDINGS[format]}"
        sidecar = picture.with_suffix(".json")
        since, slugs = since or self.generation(), self._shown(run, portrait)
        with self._building(slugs, since) as staging:
            write(staging / picture.name)
            with self._alone():
                self.check_present(slugs, since)
                people = self._shown(run, portrait)
                if sidecar.exists() and _is_whole(sidecar):
                    raise StoreError(f"There is already a portrait {portrait.id!r} in {run}.", "Start a new run.")
                details = sidecar_bytes(portrait, people, verdicts, picture.name, datetime.now(UTC))
                disk.write(staging / sidecar.name, details)
                disk.move(staging / picture.name, picture)
                disk.move(staging / sidecar.name, sidecar)
        return picture

    def save_verdicts(self, run: Path, id: str, verdicts: tuple[Verdict, ...]) -> None:
        """Replaces what the judge said of a kept portrait."""
        sidecar = run / f"{disk.plain(id)}.json"
        with self._building() as staging, self._alone():
            if not sidecar.exists():
                raise Missing(f"There is no portrait {id!r} in {run}.", "It may have been forgotten meanwhile.")
            read_portrait(sidecar)
            disk.write(staging / sidecar.name, with_verdicts(json.loads(sidecar.read_bytes()), verdicts))
            disk.move(staging / sidecar.name, sidecar)

    def portraits(self, slug: str | None = None) -> tuple[KeptPortrait, ...]:
        """Every kept portrait that shows this person, or all of them; newest first."""
        if slug is not None:
            self._known(slug)
        return self._fresh_records().portraits(slug) if self._people.is_dir() else ()

    def portrait(self, slug: str, run: str, id: str) -> KeptPortrait:
        """One portrait by the folder of its person, its run and its id. Raises StoreError when it is not here."""
        return read_portrait(self._sidecar(slug, run, id))

    def delete_portrait(self, slug: str, run: str, id: str) -> None:
        """The picture and all that is known of it. Raises StoreError when it is not here."""
        sidecar = self._sidecar(slug, run, id)
        with self._alone():
            for ending in ENDINGS.values():
                sidecar.with_suffix(ending).unlink(missing_ok=True)
            sidecar.unlink(missing_ok=True)
            if not any(sidecar.parent.iterdir()):
                sidecar.parent.rmdir()

    def page(
        self, slug: str | None = None, *, after: tuple[str, str] | None = None, limit: int, **wanted: Any
    ) -> tuple[KeptPortrait, ...]:
        """At most `limit` portraits, newest first, after the one of this time (as `made` says it) and key.

        `wanted` may say kept, call, engine, style and run.
        """
        if slug is not None:
            self._known(slug)
        if not self._people.is_dir():
            return ()
        if after is not None:
            person, run, id = (*after[1].split("/"), "", "")[:3]
            after = (after[0], f"people/{person}/portraits/{run}/{id}.json")
        return self._fresh_records().page(slug, after=after, limit=limit, **wanted)

    # ── all of it ────────────────────────────────────────────────────────────────────────────────

    def rebuild(self) -> None:
        """Makes the records database anew from the folders."""
        with self._alone():
            self._records().rebuild()

    def check(self, tick: Tick = silent) -> tuple[Finding, ...]:
        """What is damaged, every file having been read, and whether the index agrees with the folders."""
        from facechain.store.check import Finding, examine

        found = list(examine(self.folder, tick))
        if self._people.is_dir() and (why := self._index_differs()):
            step = "Run `facechain workspace rebuild`."
            found.append(Finding(path=self._database.name, what=why, next_step=step))
        return tuple(found)

    def _index_differs(self) -> str:
        """How the index, brought up to date, disagrees with one made anew in memory; "" when it does not."""
        anew = self._records("sqlite://")
        try:
            anew.sync()
        except StoreError:  # the folders are at fault, and what is damaged there was found already
            return ""
        try:
            kept = self._fresh_records().portraits()
        except StoreError as error:
            return error.what
        same = [vars(portrait) for portrait in kept] == [vars(portrait) for portrait in anew.portraits()]
        return "" if same else "The index of portraits differs from the folders."

    def key_fingerprint(self) -> str:
        """Of the key that signs this workspace's archives; it is made now if there is none yet."""
        from facechain.store import signing

        return signing.fingerprint(bytes(self._signing_key().verify_key))

    def backup(self, passphrase: str = "", tick: Tick = silent) -> Iterator[bytes]:
        """A signed archive of everybody, their portraits and trainings, and of the server's users.

        Raises ArchiveError for a short passphrase, Conflict when a file is changed or deleted meanwhile.
        """
        from facechain.store import archive, bundle

        paths = bundle.workspace_files(self.folder)
        return archive.pack("workspace", self.folder, paths, self._signing_key(), passphrase, tick)

    def restore(
        self,
        source: IO[bytes],
        *,
        trusted: Callable[[str], bool] = lambda fingerprint: False,
        passphrase: str = "",
        tick: Tick = silent,
    ) -> int:
        """Fills an empty workspace from a backup; returns how many files that were.

        Raises Conflict when it is not empty, and ArchiveError or SignerUnknown as `import_person` does.
        """
        from facechain.store import archive, bundle, signing

        self._check_empty()
        own = signing.own_fingerprint(self.folder)
        with self._building() as staging:
            manifest = archive.unpack(
                source,
                staging,
                "workspace",
                allowed=bundle.is_workspace_path,
                trusted=lambda signer: signer == own or trusted(signer),
                passphrase=passphrase,
                tick=tick,
            )
            for sheet in (*staging.glob(f"people/*/{SHEET}"), *staging.glob(f"users/*/people/*/{SHEET}")):
                bundle.add_folders(sheet.parent)
            with self._alone():
                self._check_empty()
                for part in sorted(staging.iterdir()):
                    target = self.folder / part.name
                    if target.is_dir():
                        target.rmdir()
                    disk.move(part, target)
        return len(manifest.entries)

    def _check_empty(self) -> None:
        from facechain.store import bundle

        if next(bundle.workspace_files(self.folder), None) is not None:
            raise Conflict(
                f"{self.folder} holds people or users already.",
                "Restore into an empty folder: facechain --workspace FOLDER workspace restore FILE",
            )

    def _signing_key(self) -> SigningKey:
        from facechain.store import signing

        if (self.folder / signing.FILE).exists():  # also where the workspace cannot be written
            return signing.signing_key(self.folder)
        with self._alone():
            return signing.signing_key(self.folder)

    # ── small things ─────────────────────────────────────────────────────────────────────────────

    def _home(self, slug: str) -> Path:
        home = self._people / disk.plain(slug)
        if home.is_symlink():
            raise StoreError(f"{home} leads out of the workspace.", "Remove that link.")
        return home

    def _homes(self) -> list[Path]:
        return sorted(home for home in self._people.glob("[!.]*") if home.is_dir())

    def _add(self, slug: str, since: str, write: Callable[[Path], None]) -> None:
        """A person's folder, as `write` fills it."""
        since = since or self.generation()
        self.check_free(slug, since)
        with self._building((slug,), since) as staging:
            write(staging)
            with self._alone():
                self.check_free(slug, since)
                self._people.mkdir(mode=0o700, exist_ok=True)
                disk.move(staging, self._home(slug))

    def _mark_forgotten(self, slug: str) -> bool:
        """Stops what is under way about a person, and deletes what it has built. False when the disk has no room."""
        mark = ""
        try:
            mark = self._tombstones.mark(slug)
            self._tombstones.add(slug)
            return True
        except OSError:
            return False
        finally:
            for left in list(self._staging.iterdir()) if mark else ():
                if left.is_dir() and mark in left.name.split("."):
                    self._delete(left)

    def _delete(self, folder: Path) -> None:
        """Out of everybody's reach at once, then for good."""
        doomed = self._staging / secrets.token_hex(8)
        try:
            disk.move(folder, doomed)
        except OSError:  # a full disk may have no room for another name
            doomed = folder
        with contextlib.suppress(OSError):
            shutil.rmtree(doomed)
        if doomed.exists():  # somebody was still writing into it as its name went
            shutil.rmtree(doomed)

    def _forget_in_index(self, slug: str) -> None:
        if self._url or self._database.exists():
            try:
                self._records().forget(slug)
            except StoreError:
                if self._url:
                    raise
                for ending in ("", "-journal"):
                    self._database.with_name(self._database.name + ending).unlink(missing_ok=True)
        for left in self.folder.glob(f"{self._database.name}{disk.DAMAGED}*"):  # they remember, and are of no use
            left.unlink()

    def _known(self, slug: str) -> Path:
        home = self._home(slug)
        if not home.is_dir():
            raise PersonMissing(f"There is no {slug!r} in the workspace.", "See `facechain people list`, or add them.")
        return home

    def _sidecar(self, slug: str, run: str, id: str) -> Path:
        folder = self._home(slug) / "portraits" / disk.plain(run)
        # An id may hold dots, so the ending is added, not exchanged.
        sidecar = folder / f"{disk.plain(id)}.json"
        if not sidecar.is_file():
            raise Missing(f"There is no portrait {id!r} here.", "It may have been deleted or forgotten meanwhile.")
        return sidecar

    def _shown(self, run: Path, portrait: Portrait) -> dict[str, str]:
        """Slug to name of the people a portrait shows, each given by name or slug."""
        if run.parent.parent.parent != self._people or not run.is_dir():
            raise PersonError(f"{run} is not a folder of this workspace.", "The person may have been forgotten.")
        names = {}
        for home in self._homes():
            with contextlib.suppress(StoreError):
                names[home.name] = read_name(home)
        slugs = {_tidy(name): slug for slug, name in names.items()} | {slug: slug for slug in names}
        shown = {}
        for person in portrait.people:
            slug = slugs.get(_tidy(person))
            if slug is None:
                raise PersonMissing(f"There is no {person!r} in the workspace.", "They may have been forgotten.")
            shown[slug] = names[slug]
        return shown

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the workspace against every other writer; for short steps only."""
        with disk.errors(self.folder, "FACECHAIN_WORKSPACE"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._staging.mkdir(mode=0o700, exist_ok=True)
            with disk.locked(self.folder / ".lock"):
                yield

    @contextlib.contextmanager
    def _building(self, slugs: Collection[str] = (), since: str = "") -> Iterator[Path]:
        """An empty folder to build in, beside others doing the same; removed unless moved into place.

        It is removed as well when one of `slugs` is forgotten; then PersonForgotten is raised.
        """
        with disk.errors(self.folder, "FACECHAIN_WORKSPACE"), contextlib.ExitStack() as stack:
            with self._alone():
                self._sweep()
                self.check_present(slugs, since)
                marks = [self._tombstones.mark(slug) for slug in slugs]
                staging = self._staging / ".".join([*marks, secrets.token_hex(8)])
                mine = self._staging / f"{staging.name}.lock"
                stack.callback(mine.unlink, missing_ok=True)
                stack.enter_context(disk.locked(mine))
                staging.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, staging, ignore_errors=True)
            with self.under_way(slugs, since):
                yield staging

    def _make_private(self) -> None:
        """Also what an earlier version wrote. The folder itself only where nothing else is in it, such as a home's."""
        found = list(self.folder.iterdir()) if self.folder.is_dir() else []
        ours = [path for path in found if any(path.match(pattern) for pattern in _OURS)]
        for path in (*ours, self.folder) if len(ours) == len(found) else ours:
            disk.make_private(path)

    def _sweep(self) -> None:
        """Removes what killed processes were building. Only for who holds the workspace."""
        for lock in self._staging.glob("*.lock"):
            with contextlib.suppress(OSError, StoreError):
                with disk.locked(lock, patience_seconds=0):  # refused while its owner lives
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        for left in self._staging.iterdir():
            if left.is_dir() and not left.with_name(f"{left.name}.lock").exists():
                shutil.rmtree(left, ignore_errors=True)

    def _sweep_if_idle(self) -> None:
        """Clears up after a killed process, unless somebody is writing or we may not."""
        if self._staging.is_dir() and any(self._staging.iterdir()):
            with contextlib.suppress(OSError, StoreError), disk.locked(self.folder / ".lock", patience_seconds=0):
                self._sweep()

    def _records(self, url: str = "") -> Records:
        from facechain.store.records import Records  # not needed to list people, and slow to import

        return Records(self.folder, url or self._url or f"sqlite:///{self._database}")

    def _fresh_records(self) -> Records:
        """Up to date with the folders; in memory where the workspace cannot be written."""
        records = self._records()
        if records.behind():
            try:
                with self._alone():
                    records.sync()
            except StoreError:
                records = self._records("sqlite://")
                records.sync()
        return records


def _is_whole(sidecar: Path) -> bool:
    try:
        read_portrait(sidecar)
    except StoreError:
        return False
    return True


def _tidy(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())
