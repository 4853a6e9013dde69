"""Members out of a zip or tar file, as plain bytes: names and links in the archive decide nothing about where."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import IO

from facechain.packs.errors import SourceFailed
from facechain.packs.hashing import CHUNK_BYTES
from facechain.protocols import Tick

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError)


def extract(archive: Path, wanted: Mapping[str, Path], stage: str, tick: Tick) -> None:
    """Writes each member named exactly so to its path, in one pass; refuses links, folders and sizes that lie."""
    missing = set(wanted)
    try:
        for name, source, size in _members(archive, wanted):
            _write(name, source, size, wanted[name], stage, tick)
            missing.discard(name)
            if not missing:
                return
    except _BROKEN as error:
        raise SourceFailed(f"the archive {archive.name} is broken: {error}") from error
    raise SourceFailed(f"the archive has no member {min(missing)}")


def _write(name: str, source: IO[bytes], size: int, into: Path, stage: str, tick: Tick) -> None:
    done = 0
    with into.open("wb") as out:
        while chunk := source.read(CHUNK_BYTES):
            done += len(chunk)
            if done > size:
                raise SourceFailed(f"{name} is longer than its archive says")
            out.write(chunk)
            tick(stage, done, size)


def _members(archive: Path, wanted: Container[str]) -> Iterator[tuple[str, IO[bytes], int]]:
    """Name, bytes and size of the wanted members, in the archive's order."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if info.filename in wanted:
                    if info.is_dir() or info.external_attr >> 28 == 0o12:  # the high bits are a Unix mode; 12: a link
                        raise SourceFailed(f"{info.filename} is not a plain file")
                    with opened.open(info) as source:
                        yield info.filename, source, info.file_size
        return
    with tarfile.open(archive, "r:*") as opened:
        for info in opened:
            if info.name in wanted:
                source = opened.extractfile(info) if info.isreg() else None
                if source is None:
                    raise SourceFailed(f"{info.name} is not a plain file")
                with source:
                    yield info.name, source, info.size
