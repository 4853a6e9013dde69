"""Bytes on disk: whole or not there at all, and one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from facechain.errors import Conflict, StoreError

POLL_SECONDS = 0.002  # short, or a busy neighbour always comes first
PATIENCE_SECONDS = 120.0
PRIVATE = 0o077  # permissions of everybody but the user
DAMAGED = ".damaged-"  # in the name of what was set aside

_PLAIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def plain(name: str) -> str:
    """The same name. Raises StoreError when, as part of a path, it could lead anywhere else."""
    if len(name) > 120 or not _PLAIN.fullmatch(name):
        raise StoreError(f"{name!r} cannot be a folder or file name.", "Use letters a-z, digits and dashes.")
    return name


# Folders that systems put beside people's own: archives of macOS, Synology and QNAP, bins, Windows.
_SYSTEM = re.compile(
    r"\..*|__MACOSX|@(eaDir|tmp|Recycle|Recently-Snapshot)|#(recycle|snapshot)|\$RECYCLE\.BIN"
    r"|System Volume Information|lost\+found",
    re.IGNORECASE,
)


def is_system(name: str) -> bool:
    """Whether a folder of this name is the system's own, or hidden, and so no person's."""
    return _SYSTEM.fullmatch(name) is not None


@contextlib.contextmanager
def errors(folder: Path, setting: str) -> Iterator[None]:
    """Turns what the disk refuses into a StoreError that names the environment variable moving `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"The disk holding {folder} is full.", "Free some space and run it again; nothing was lost."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreError(
                f"{folder} cannot be written: {error.strerror}.", f"Point {setting} at a folder of yours."
            ) from error
        raise StoreError(f"{folder} cannot be used: {error}.", "Check the disk.") from error


def refused(error: BaseException | None, folder: Path) -> StoreError:
    """What SQLite, or another database, refused in `folder`, with what to do about it."""
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return StoreError(f"The disk holding {folder} is full.", "Free some space and run it again.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreError(
                f"A database in {folder} cannot be written: {error}.",
                "Make it writable, or point FACECHAIN_WORKSPACE at a folder of yours.",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(f"Another process is writing to a database in {folder}.", "Try again in a minute.")
        case _:
            return StoreError(f"A database in {folder} cannot be used: {error}.", "Check the disk, then run it again.")


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says that a file is damaged or no database at all."""
    return _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _code(error: BaseException | None) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest tells kinds of one error apart


_usual_umask = 0


def keep_private() -> None:
    """From now on nobody but the user may read what this process, and those it starts, write."""
    global _usual_umask
    _usual_umask = os.umask(PRIVATE)


def share(path: Path) -> None:
    """Gives a file or folder, such as a model, the permissions that the user's others have, after `keep_private`."""
    if _usual_umask:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~_usual_umask)


def make_shared(folder: Path) -> None:
    """Creates a folder, and those above it, to be shared."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        share(path)


def make_private(path: Path) -> None:
    """Takes from others what they may do with a file, or with a folder and all in it. Links are left alone.

    A folder comes after what is in it, so an interrupted pass is begun again and a finished one costs one look.
    """
    if sys.platform == "win32" or path.is_symlink() or not path.exists():
        return
    with contextlib.suppress(OSError):  # somebody else's, or read-only: not ours to change
        if not stat.S_IMODE(path.stat().st_mode) & PRIVATE:
            return
        for inner in path.iterdir() if path.is_dir() else ():
            make_private(inner)
        path.chmod(path.stat().st_mode & ~PRIVATE)


def private_open(path: str, flags: int) -> int:
    """For `open(..., opener=)`: a new file is the user's alone."""
    return os.open(path, flags, 0o600)


def set_aside(path: Path) -> Path:
    """Renames something damaged, so that a new one can take its place; returns where it is now."""
    aside = path.with_name(f"{path.name}{DAMAGED}{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}")
    os.replace(path, aside)  # noqa: PTH105 - as in move
    return aside


def write(path: Path, data: bytes) -> None:
    """A new file, safe from a power cut; for files in a folder that is moved into place later."""
    with open(path, "wb", opener=private_open) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def save(path: Path, chunks: Iterable[bytes], option: str = "--out") -> int:
    """A new file only its owner may read, there when it is whole; returns its bytes.

    Raises Conflict when there is one already, StoreError, naming the `option` that says where, when it cannot be
    written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        if path.exists():
            raise Conflict(f"{path} is there already.", f"Give another name with {option}, or remove it.")
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        move(part, path)
        return size
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}.", f"Free some space, or choose another place with {option}."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk itself."""
    if path.is_dir():
        if sys.platform != "win32":
            folder = os.open(path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    else:
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def move(part: Path, target: Path) -> None:
    """Makes a finished file or folder the `target` at once."""
    sync(part)
    os.replace(part, target)  # noqa: PTH105 - replaces on every system
    sync(target.parent)


@contextlib.contextmanager
def locked(
    path: Path,
    patience_seconds: float = PATIENCE_SECONDS,
    poll_seconds: float = POLL_SECONDS,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Holds a lock file against other threads and processes; the system frees it when we die.

    `waiting` is called at every look while others hold it, and may raise to give up. Raises StoreError when they hold
    it longer than our patience.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    end = time.monotonic() + patience_seconds
    lock = FileLock(path, mode=0o600)
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            if time.monotonic() >= end:
                what = f"Another process is writing to {path.parent}."
                raise StoreError(what, "Wait until it has finished.") from None
        waiting()
        time.sleep(poll_seconds)
    try:
        yield
    finally:
        lock.release()
