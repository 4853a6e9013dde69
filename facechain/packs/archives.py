"""One member out of a zip or tar file, as plain bytes: names and links in the archive decide nothing about where."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from facechain.packs.disk import CHUNK_BYTES
from facechain.packs.errors import SourceFailed
from facechain.protocols import Tick

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError)


def extract(archive: Path, member: str, into: Path, stage: str, tick: Tick) -> None:
    """Writes the member named exactly `member` to `into`; refuses links, folders and sizes that lie."""
    try:
        with _member(archive, member) as (source, size), into.open("wb") as out:
            done = 0
            while chunk := source.read(CHUNK_BYTES):
                done += len(chunk)
                if done > size:
                    raise SourceFailed(f"{member} is longer than its archive says")
                out.write(chunk)
                tick(stage, done, size)
    except _BROKEN as error:
        raise SourceFailed(f"the archive {archive.name} is broken: {error}") from error


@contextmanager
def _member(archive: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            if name not in opened.namelist():
                raise SourceFailed(f"the archive has no member {name}")
            info = opened.getinfo(name)
            if info.is_dir() or info.external_attr >> 28 == 0o12:  # the high bits are a Unix mode; 12: a link
                raise SourceFailed(f"{name} is not a plain file")
            with opened.open(info) as source:
                yield source, info.file_size
        return
    with tarfile.open(archive, "r:*") as opened:
        info = next((info for info in opened if info.name == name), None)
        if info is None:
            raise SourceFailed(f"the archive has no member {name}")
        source = opened.extractfile(info) if info.isreg() else None
        if source is None:
            raise SourceFailed(f"{name} is not a plain file")
        with source:
            yield source, info.size
