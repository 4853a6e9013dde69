"""Models on this machine: which are here, whether they are the promised bytes, and how to get the rest."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from facechain import disk
from facechain.errors import HashMismatch, PackError, PackMissing
from facechain.packs.errors import SourceFailed, WrongBytes
from facechain.packs.hashing import sha256_of
from facechain.packs.licences import Combination, combination
from facechain.packs.locks import locked
from facechain.packs.manifest import LocalSource, NpmSource, Pack, PackFile, PypiSource, Source, read_packs
from facechain.packs.sources import Errand, obtain
from facechain.protocols import Tick, silent

RECORD = "fetched.json"  # in each pack's folder: what was fetched, from where, with which hash


class Verified(StrEnum):
    YES = "yes"  # the bytes the manifest promises
    UNVERIFIED = "unverified"  # the manifest promises none; the bytes first seen here
    NO = "no"  # absent, changed, or never checked here


@dataclass(frozen=True, kw_only=True)
class Status:
    """One line of a table of packs."""

    id: str
    role: str
    family: str
    title: str
    bytes: int  # as found, or as far as the manifest says; 0: not known yet
    sized: bool  # that is all of it
    present: bool  # every file is there
    verified: Verified
    licence: str
    commercial: str  # "yes", "no" or "ask"
    opt_in: bool
    source: str  # where it came from; empty when not fetched
    folder: Path


@dataclass(frozen=True, kw_only=True)
class _Fetched:
    """What is remembered of one file, so that it need not be hashed on every use."""

    sha256: str
    bytes: int
    mtime_ns: int
    source: str


class Packs:
    """Packs by id, kept as `folder`/<pack id>/<file>. `offline` (or FACECHAIN_OFFLINE=1) never opens a socket."""

    def __init__(self, manifests: Mapping[str, Pack], folder: Path, offline: bool = False) -> None:
        self.manifests = manifests
        self.folder = folder.absolute()
        self.offline = offline or os.environ.get("FACECHAIN_OFFLINE", "0") not in ("", "0")
        self._archives = self.folder / ".archives"
        self._locks = self.folder / ".locks"
        self._silent_hosts: dict[str, float] = {}
        self._hashed: dict[Path, _Fetched] = {}  # checked in this process but not recorded, e.g. copied in by hand

    @classmethod
    def load(cls, configs: Path, folder: Path | None = None, offline: bool = False) -> Packs:
        """Manifests of `configs`; models in `folder`, by default $FACECHAIN_MODELS or ./models."""
        return cls(read_packs(configs), folder or Path(os.environ.get("FACECHAIN_MODELS") or "models"), offline)

    def path(self, pack_id: str, file: str) -> Path:
        """A verified file, ready to open. Raises PackMissing or HashMismatch naming what to do."""
        pack = self.pack(pack_id)
        listed = pack.file(file)
        if listed is None:
            raise PackError(f"The pack {pack_id} has no file {file}.", f"It has {_names(pack)}.")
        if not self._target(pack, listed).is_file():
            raise PackMissing(f"{pack.title} is not on this machine ({pack_id}/{file}).", _get_it(pack))
        if not self._known(pack, listed):
            self._hash(pack, listed, silent)
        return self._target(pack, listed)

    def list(self) -> tuple[Status, ...]:
        return tuple(self.status(id) for id in self.manifests)

    def status(self, pack_id: str) -> Status:
        """Quick: trusts what was recorded as long as size and time of the files are the same."""
        pack = self.pack(pack_id)
        return self._status(pack, [self._known(pack, file) or self._shipped(pack, file) for file in pack.files])

    def verify(self, pack_id: str, tick: Tick = silent) -> Status:
        """Hashes every file anew, and remembers it if the folder can be written. Raises HashMismatch or PackMissing."""
        pack = self.pack(pack_id)
        for file in pack.files:
            if not self._target(pack, file).is_file():
                raise PackMissing(f"{pack_id}/{file.path} is not on this machine.", _get_it(pack))
        found = [self._hash(pack, file, tick) for file in pack.files]
        if pack.home:
            return self._status(pack, found)
        with contextlib.suppress(OSError), locked(self._locks / f"{pack_id}.lock", pack_id, tick):
            self._remember(pack, {file.path: one for file, one in zip(pack.files, found, strict=True)})
        return self._status(pack, found)

    def fetch(self, pack_id: str, tick: Tick = silent) -> Status:
        """Gets whatever is missing or wrong, from the first source that has the right bytes.

        Raises HashMismatch when only wrong bytes were offered, PackMissing offline, PackError when no source helped,
        StoreError when the disk refuses, Cancelled from `tick`; a later call goes on where a download stopped.
        """
        pack = self.pack(pack_id)
        if pack.home:
            return self.verify(pack_id, tick)
        if all(self._known(pack, file) for file in pack.files):
            return self.status(pack_id)
        with disk.errors(self.folder, "FACECHAIN_MODELS"), locked(self._locks / f"{pack_id}.lock", pack_id, tick):
            missing = [file for file in pack.files if not self._adopt(pack, file, tick)]
            failures: list[SourceFailed] = []
            for source in pack.sources:
                for group in _groups(source, missing):
                    try:
                        self._bring(pack, group, source, tick)
                    except SourceFailed as failed:
                        failures.append(failed)
                        continue
                    missing = [file for file in missing if file not in group]
            if missing:
                raise self._gave_up(pack, missing[0], failures)
        return self.status(pack_id)

    def revision(self, pack_id: str) -> str:
        """12 hex digits that name the pack's bytes, for recipes. Raises PackMissing if they are not known yet."""
        pack = self.pack(pack_id)
        digest = hashlib.sha256()
        for file in sorted(pack.files, key=lambda file: file.path):
            known = self._known(pack, file)
            sha256 = self._promised(pack, file) or (known.sha256 if known else "")
            if not sha256:
                raise PackMissing(f"The bytes of {pack_id}/{file.path} are not known yet.", _get_it(pack))
            digest.update(f"{file.path} {sha256}\n".encode())
        return digest.hexdigest()[:12]

    def licences(self, pack_ids: Iterable[str]) -> Combination:
        """What these packs together allow."""
        return combination(self.pack(id) for id in pack_ids)

    def drop_archives(self) -> None:
        """Deletes whole archives kept for packs that share them; fetched files stay."""
        shutil.rmtree(self._archives, ignore_errors=True)

    def pack(self, pack_id: str) -> Pack:
        if pack_id not in self.manifests:
            raise PackError(f"There is no pack {pack_id!r}.", f"Known packs: {', '.join(self.manifests)}.")
        return self.manifests[pack_id]

    # ── one file ─────────────────────────────────────────────────────────────────────────────────

    def _target(self, pack: Pack, file: PackFile) -> Path:
        return self._folder(pack) / file.path

    def _folder(self, pack: Pack) -> Path:
        return pack.home or self.folder / pack.id

    def _shipped(self, pack: Pack, file: PackFile) -> _Fetched | None:
        """What comes with the program was never fetched, so the first look at it is what checks it."""
        if pack.home is None or not self._target(pack, file).is_file():
            return None
        try:
            return self._hash(pack, file, silent)
        except HashMismatch:
            return None

    def _promised(self, pack: Pack, file: PackFile) -> str:
        """The hash the file must have: the manifest's, else that of the first download; empty if neither is known."""
        if file.sha256:
            return file.sha256
        recorded = self._record(pack).get(file.path)
        return recorded.sha256 if recorded else ""

    def _known(self, pack: Pack, file: PackFile) -> _Fetched | None:
        """What was remembered of the file, if it is still that file and still the promised one."""
        target = self._target(pack, file)
        for known in (self._record(pack).get(file.path), self._hashed.get(target)):
            if known and target.is_file() and file.sha256 in ("", known.sha256):
                found = target.stat()
                if (found.st_size, found.st_mtime_ns) == (known.bytes, known.mtime_ns):
                    return known
        return None

    def _hash(self, pack: Pack, file: PackFile, tick: Tick) -> _Fetched:
        target, promised = self._target(pack, file), self._promised(pack, file)
        sha256 = sha256_of(target, f"{pack.id}: checking", tick)
        if promised and sha256 != promised:
            raise HashMismatch(
                f"{pack.id}/{file.path} has sha256 {sha256}, expected {promised}.",
                _get_it(pack) if pack.home else f"Delete {self._folder(pack)} and fetch it again. {_get_it(pack)}",
            )
        recorded = self._record(pack).get(file.path)
        source = recorded.source if recorded else "comes with the program" if pack.home else "found in place"
        self._hashed[target] = _describe(target, sha256, source)
        return self._hashed[target]

    def _adopt(self, pack: Pack, file: PackFile, tick: Tick) -> bool:
        """Whether the right file is there already: fetched by somebody else meanwhile, or copied in by hand."""
        target, promised = self._target(pack, file), self._promised(pack, file)
        if self._known(pack, file):
            return True
        if not target.is_file():
            return False
        sha256 = sha256_of(target, f"{pack.id}: checking", tick)
        if promised and sha256 != promised:
            return False
        self._remember(pack, {file.path: _describe(target, sha256, "found in place")})
        return True

    def _bring(self, pack: Pack, group: Sequence[PackFile], source: Source, tick: Tick) -> None:
        """Downloads, checks and moves into place. Raises SourceFailed."""
        errand = Errand(
            archives=self._archives,
            locks=self._locks,
            offline=self.offline,
            stage=f"{pack.id}: {source.label}",
            tick=tick,
            silent_hosts=self._silent_hosts,
        )
        key = hashlib.sha256(f"{source}".encode()).hexdigest()[:8]  # never go on with another source's beginning
        targets = {file: self._target(pack, file) for file in group}
        parts = {file: target.with_name(f"{target.name}.{key}.part") for file, target in targets.items()}
        for part in parts.values():
            disk.make_shared(part.parent)
        resumed = any(part.is_file() for part in parts.values())
        obtain(source, {file.path: parts[file] for file in group}, {file.path: file.bytes for file in group}, errand)
        hashes = {file: sha256_of(part, f"{pack.id}: checking", tick) for file, part in parts.items()}
        for file in group:
            if (promised := self._promised(pack, file) or hashes[file]) != hashes[file]:
                for part in parts.values():
                    part.unlink()
                if resumed:  # perhaps only the old beginning was bad
                    return self._bring(pack, group, source, tick)
                raise WrongBytes(f"{file.path} from {source.label}", promised, hashes[file])
        for file, target in targets.items():
            disk.share(parts[file])
            disk.move(parts[file], target)
            for left in target.parent.glob(f"{glob.escape(target.name)}.*.part"):
                left.unlink()
        fetched = {file.path: _describe(targets[file], hashes[file], source.label) for file in group}
        self._remember(pack, fetched)

    def _gave_up(self, pack: Pack, file: PackFile, failures: Sequence[SourceFailed]) -> PackError:
        what = f"{pack.id}/{file.path} could not be fetched: {'; '.join(map(str, failures))}."
        if any(isinstance(failed, WrongBytes) for failed in failures):
            return HashMismatch(what, "Nothing was kept. Check the mirror in use, or the manifest.")
        if all(isinstance(source, LocalSource) for source in pack.sources if file.path in source.members):
            return PackMissing(
                what, "Put the published file there; a $NAME is a variable you set to a folder of yours."
            )
        if self.offline:
            return PackMissing(what, f"Go online once: {_get_it(pack)}")
        return PackError(what, "Check the network and try again; a download goes on where it stopped.")

    # ── what is remembered ───────────────────────────────────────────────────────────────────────

    def _record(self, pack: Pack) -> dict[str, _Fetched]:
        path = self.folder / pack.id / RECORD
        if pack.home or not path.is_file():
            return {}
        try:
            return {name: _Fetched(**values) for name, values in json.loads(path.read_text("utf-8")).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise PackError(f"{path} is damaged: {error}.", "Delete it; known hashes are checked anew.") from error

    def _remember(self, pack: Pack, fetched: Mapping[str, _Fetched]) -> None:
        record = {**self._record(pack), **fetched}
        path = self.folder / pack.id / RECORD
        part = path.with_name(f"{RECORD}.part")
        part.write_text(json.dumps({name: asdict(one) for name, one in sorted(record.items())}, indent=1), "utf-8")
        disk.share(part)
        disk.move(part, path)

    def _status(self, pack: Pack, known: Sequence[_Fetched | None]) -> Status:
        here = [one for one in known if one]
        complete = len(here) == len(pack.files)
        if not complete:
            verified = Verified.NO
        else:
            verified = Verified.UNVERIFIED if any(file.unverified for file in pack.files) else Verified.YES
        return Status(
            id=pack.id,
            role=pack.role,
            family=pack.family,
            title=pack.title,
            bytes=sum(one.bytes for one in here) if complete else pack.bytes,
            sized=complete or pack.sized,
            present=all(self._target(pack, file).is_file() for file in pack.files),
            verified=verified,
            licence=pack.licence.name,
            commercial=pack.licence.commercial,
            opt_in=pack.opt_in,
            source=", ".join(dict.fromkeys(one.source for one in here)),
            folder=self._folder(pack),
        )


def _groups(source: Source, missing: Iterable[PackFile]) -> list[list[PackFile]]:
    """What to ask the source for at once: an archive is read in one pass, other sources give file by file."""
    wanted = [file for file in missing if file.path in source.members]
    if isinstance(source, PypiSource | NpmSource):
        return [wanted] if wanted else []
    return [[file] for file in wanted]


def _describe(path: Path, sha256: str, source: str) -> _Fetched:
    found = path.stat()
    return _Fetched(sha256=sha256, bytes=found.st_size, mtime_ns=found.st_mtime_ns, source=source)


def _names(pack: Pack) -> str:
    return ", ".join(file.path for file in pack.files)


def _get_it(pack: Pack) -> str:
    if pack.home:
        return f"It comes with the program: restore {pack.home.parent.name}/{pack.home.name} from the repository."
    return f"Run: facechain packs fetch {pack.id}"
