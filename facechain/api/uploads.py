"""Photos on their way in: one folder an upload, in the owner's own workspace.

When they go is said in `facechain.jobs.retention`.

A file's name and header are checked as it arrives, before anything decodes it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from facechain import disk
from facechain.errors import PhotoError, UserError
from facechain.photos.read import FORMATS, check_header

MAX_BYTES = 50_000_000
MAX_FILES = 200
MAX_TOTAL_BYTES = 2_000_000_000

_PART = ".part"  # ends the name of a file on its way in
_STEP_BYTES = 2**20  # asked for at once by a file of unknown size
_writing = threading.Lock()
_arriving_bytes: Counter[Path] = Counter()  # room granted to files on their way in, by `Uploads` folder

_BATCH = re.compile(r"[0-9a-f]{16}")


class Uploads:
    """`room` keeps apart what goes by different rules."""

    def __init__(self, workspace: Path, room: str = "uploads") -> None:
        self._folder = workspace / room

    def folder(self, batch: str) -> Path:
        """Where an upload's files are. Raises UserError for a batch that cannot be."""
        if not _BATCH.fullmatch(batch):
            raise UserError("There is no such upload.", "Choose the photos again.")
        return self._folder / batch

    def files(self, batch: str) -> list[Path]:
        folder = self.folder(batch)
        return sorted(path for path in folder.iterdir() if path.suffix != _PART) if folder.is_dir() else []

    def file(self, batch: str, name: str) -> Path:
        """One file by its name, never by a path. Raises UserError when it is not there."""
        for path in self.files(batch):
            if path.name == name:
                return path
        raise UserError(f"There is no photo {name!r} in this upload.", "Choose the photos again.")

    async def receive(self, batch: str, name: str, chunks: AsyncIterator[bytes], announced: int) -> Path:
        """Writes one file. Raises UserError or PhotoError naming what is wrong with it; then nothing stays.

        `announced` is its size in bytes, 0 where that is not known; more is taken when there is room for it.
        """
        safe = tidy_name(name)
        folder = self.folder(batch)
        if announced > MAX_BYTES:
            raise _too_large(safe)
        with self._room(announced) as grow:
            target = _begin(folder, safe)
            part = _part(target)
            try:
                with open(part, "wb", opener=disk.private_open) as file:
                    written = 0
                    async for chunk in chunks:
                        written += len(chunk)
                        if written > MAX_BYTES:  # whoever announced less than they send
                            raise _too_large(safe)
                        grow(written)
                        file.write(chunk)
                part.replace(target)
                try:
                    check_header(target)
                except PhotoError:
                    target.unlink(missing_ok=True)
                    raise
            finally:
                part.unlink(missing_ok=True)
        return target

    def join(self, batch: str, other: str) -> None:
        """The files of `other` become this upload's. Raises UserError when it would be too many; then they are gone."""
        folder, more = self.folder(batch), self.files(other)
        with _writing:
            if len(_names(folder)) + len(more) > MAX_FILES:
                self.drop(other)
                raise _too_many()
            for path in more:
                path.replace(_free(folder, path.name))
        self.drop(other)

    def drop(self, batch: str, name: str = "") -> None:
        """One file, or all of an upload."""
        if name:
            self.file(batch, name).unlink()
        else:
            shutil.rmtree(self.folder(batch), ignore_errors=True)

    @contextlib.contextmanager
    def _room(self, size_bytes: int) -> Iterator[Callable[[int], None]]:
        """Room for a file on its way in; the function given takes its size again when it grows.

        Both raise UserError when all that has arrived or is arriving would be more than `MAX_TOTAL_BYTES`.
        """
        granted = 0

        def grow(to_bytes: int) -> None:
            nonlocal granted
            if to_bytes <= granted:
                return
            more = max(to_bytes - granted, _STEP_BYTES)
            with _writing:
                if self._bytes() + _arriving_bytes[self._folder] + more > MAX_TOTAL_BYTES:
                    raise UserError(
                        "Too much is waiting to be enrolled.", "Finish or discard your other uploads first."
                    )
                _arriving_bytes[self._folder] += more
                granted += more

        try:
            grow(size_bytes)
            yield grow
        finally:
            with _writing:
                _arriving_bytes[self._folder] -= granted

    def _bytes(self) -> int:
        """Of what has arrived."""
        return sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file() and path.suffix != _PART)


def tidy_name(name: str) -> str:
    """The file's own name without folders or signs that mean something to a system.

    Raises PhotoError when its ending is not a picture's.
    """
    last = re.split(r"[\\/]", unicodedata.normalize("NFC", name))[-1]
    kept = "".join(c for c in last if c not in '<>:"|?*' and unicodedata.category(c)[0] != "C").strip(" .")
    stem, dot, ending = kept.rpartition(".")
    if not dot or f".{ending.lower()}" not in FORMATS:
        raise PhotoError(
            f"{kept[:80] or 'The file'} is not a picture we can read.",
            f"Save it as one of {', '.join(sorted(FORMATS))}.",
        )
    encoded = stem.encode()[:120].decode(errors="ignore") or "photo"
    return f"{encoded}.{ending.lower()}"


def _begin(folder: Path, name: str) -> Path:
    """Where a file of this name will be; nobody else gets that place. Raises UserError when the upload is full."""
    with _writing:
        if len(_names(folder)) >= MAX_FILES:
            raise _too_many()
        folder.mkdir(parents=True, exist_ok=True)
        target = _free(folder, name)
        _part(target).touch(exist_ok=False)
        return target


def _part(target: Path) -> Path:
    return target.with_name(target.name + _PART)


def _names(folder: Path) -> set[str]:
    """Of files that have arrived or are arriving, in lower case."""
    return {path.name.lower().removesuffix(_PART) for path in folder.iterdir()} if folder.is_dir() else set()


def _free(folder: Path, name: str) -> Path:
    stem, _, ending = name.rpartition(".")
    taken = _names(folder)
    number, candidate = 2, name
    while candidate.lower() in taken:
        candidate, number = f"{stem}-{number}.{ending}", number + 1
    return folder / candidate


def _too_many() -> UserError:
    return UserError(f"{MAX_FILES} photos are enough for one upload.", "Add the others afterwards.")


def _too_large(name: str) -> UserError:
    return UserError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB.", "Make it smaller and try again.")
