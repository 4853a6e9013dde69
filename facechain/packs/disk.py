"""Bytes on disk: hashed, moved into place at once, and kept from two processes at the same time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from facechain.errors import StoreError
from facechain.protocols import Tick

CHUNK_BYTES = 1 << 20
POLL_SECONDS = 0.1


def sha256_of(path: Path, stage: str, tick: Tick) -> str:
    """64 hex digits."""
    total, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            tick(stage, done, total)
    return digest.hexdigest()


def place(part: Path, target: Path) -> None:
    """Makes `part` the `target`: readers see the old file or the whole new one, even after a power cut."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, target)  # noqa: PTH105 - replaces on every system
    if sys.platform != "win32":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def locked(path: Path, stage: str, tick: Tick) -> Iterator[None]:
    """Holds a lock file against other threads and processes; the system frees it when we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        while not _try_lock(file):
            tick(f"{stage}: waiting for another process", 0, 0)
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            _unlock(file)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses into a StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"The disk holding {folder} is full.", "Free some space and run it again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreError(
                f"{folder} cannot be written: {error.strerror}.", "Point FACECHAIN_MODELS at a folder of yours."
            ) from error
        raise StoreError(f"{folder} cannot be used: {error}.", "Check the disk.") from error
