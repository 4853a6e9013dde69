"""Folders as one file that travels: an uncompressed tar whose signed manifest names every file before it comes.

    manifest.json   format, version, kind, time, public key; path, bytes and SHA-256 of every file, in order
    manifest.sig    Ed25519, by that key
    the files       exactly as the manifest says, and nothing else

Any tar program opens it. We read it without one: each member's name, size and digest must be what the signed manifest
promised, so links, devices, sparse files, paths that lead elsewhere and surplus members have nowhere to stand; and as
nothing is compressed, nothing unpacks to more than was sent. Encrypted, the whole tar is inside `encryption`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from nacl.signing import SigningKey

from facechain import disk
from facechain.config import build
from facechain.errors import ArchiveError, ConfigError, Conflict, PassphraseMissing, SignerUnknown, StoreError
from facechain.protocols import Tick, silent
from facechain.store import encryption, signing

FORMAT, VERSION = "facechain-archive", 1
MOST_MANIFEST_BYTES = {"person": 8 * 2**20, "workspace": 128 * 2**20}  # about 150 a file
CHUNK_BYTES = 2**20

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"


@dataclass(frozen=True, kw_only=True)
class Entry:
    path: str  # relative, POSIX
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    kind: str  # "person" or "workspace"
    made: str  # UTC, ISO 8601
    signer: str  # fingerprint
    entries: tuple[Entry, ...]


def pack(
    kind: str, root: Path, paths: Iterable[str], key: SigningKey, passphrase: str = "", tick: Tick = silent
) -> Iterator[bytes]:
    """The archive of these files of a folder, chunk by chunk; encrypted when there is a passphrase.

    The files are read twice: first, before this returns, for the manifest. Raises Conflict when one is changed or
    deleted meanwhile, ArchiveError for a passphrase that is too short.
    """
    if passphrase:
        encryption.check_passphrase(passphrase)
    entries = tuple(_entries(root, list(paths), tick))
    public_key = bytes(key.verify_key)
    manifest = json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "kind": kind,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "public_key": base64.b64encode(public_key).decode(),
            "files": [vars(entry) for entry in entries],
        },
        indent=1,
    ).encode()
    chunks = _packed(root, entries, manifest, signing.sign(key, manifest), tick)
    return encryption.encrypted(chunks, passphrase) if passphrase else chunks


def unpack(
    archive: IO[bytes],
    into: Path,
    kind: str,
    *,
    allowed: Callable[[str], bool],
    trusted: Callable[[str], bool],
    passphrase: str = "",
    tick: Tick = silent,
) -> Manifest:
    """Writes the files of an archive into an empty folder; nothing before the signature is found right and trusted.

    `archive` can seek. `allowed` says which paths may be in it, `trusted` whether the key of this fingerprint may sign.
    Raises ArchiveError for a wrong passphrase and for whatever is not as it was packed, SignerUnknown for other keys.
    """
    source = _opened(archive, passphrase)
    manifest_bytes = _small_member(source, _MANIFEST, MOST_MANIFEST_BYTES[kind])
    signature = _small_member(source, _SIGNATURE, signing.SIGNATURE_BYTES)
    manifest = _checked(manifest_bytes, signature, kind, allowed)
    if not trusted(manifest.signer):
        raise SignerUnknown(manifest.signer)
    done, total = 0, sum(entry.bytes for entry in manifest.entries)
    for entry in manifest.entries:
        for written in _extracted(source, entry, into):
            done += written
            tick("importing", done, total)
    if _exactly(source, len(_END)) != _END or source.read(1):
        raise _changed("something follows its last file")
    return manifest


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def _entries(root: Path, paths: Sequence[str], tick: Tick) -> Iterator[Entry]:
    done, total = 0, sum(_size(root, path) for path in paths)
    for path in paths:
        tick("reading", done, total)
        with _reading(root, path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield Entry(path=path, bytes=file.tell(), sha256=digest)
            done += file.tell()


def _size(root: Path, path: str) -> int:
    try:
        return (root / path).stat().st_size
    except FileNotFoundError:
        raise _moved(path) from None


def _reading(root: Path, path: str) -> io.BufferedReader:
    try:
        return (root / path).open("rb")
    except FileNotFoundError:
        raise _moved(path) from None


def _packed(root: Path, entries: Iterable[Entry], manifest: bytes, signature: bytes, tick: Tick) -> Iterator[bytes]:
    for name, data in ((_MANIFEST, manifest), (_SIGNATURE, signature)):
        yield _header(name, len(data)) + data + _padding(len(data))
    done, total = 0, sum(entry.bytes for entry in entries)
    for entry in entries:
        yield _header(entry.path, entry.bytes)
        digest = hashlib.sha256()
        with _reading(root, entry.path) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                tick("exporting", done, total)
                yield chunk
        if digest.hexdigest() != entry.sha256:
            raise _moved(entry.path)
        yield _padding(entry.bytes)
    yield _END


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError as error:  # UnicodeEncodeError too: 100 characters a name, 155 for its folders, 8 GiB
        raise StoreError(f"{name} does not fit into an archive: {error}.", "Rename or remove it.") from error


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def _opened(archive: IO[bytes], passphrase: str) -> IO[bytes]:
    """The tar, after looking at how the file begins."""
    if archive.read(len(encryption.MAGIC)) != encryption.MAGIC:
        archive.seek(0)
        return archive
    if not passphrase:
        raise PassphraseMissing
    return io.BufferedReader(encryption.Decrypted(archive, passphrase), CHUNK_BYTES)


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise ArchiveError("The archive is cut short.", "Copy or download it again.")
    return data


def _read_header(source: IO[bytes]) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(_exactly(source, _BLOCK), "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise ArchiveError(
            "This is not an archive of a person or workspace, or it is damaged.",
            "Give a file written by `facechain people export` or `facechain workspace backup`.",
        ) from error
    if info.type != tarfile.REGTYPE:
        raise _changed(f"{info.name!r} is not a plain file")
    return info


def _small_member(source: IO[bytes], name: str, most_bytes: int) -> bytes:
    info = _read_header(source)
    if info.name != name or not 0 < info.size <= most_bytes:
        raise _changed(f"{name} is missing or too large")
    data = _exactly(source, info.size)
    _skip_padding(source, info.size)
    return data


def _skip_padding(source: IO[bytes], size: int) -> None:
    padding = _padding(size)
    if _exactly(source, len(padding)) != padding:
        raise _changed("there are bytes between its files")


def _checked(data: bytes, signature: bytes, kind: str, allowed: Callable[[str], bool]) -> Manifest:
    """The manifest, its signature being right and every path one that may be written."""
    try:
        values: Mapping[str, Any] = json.loads(data)
        if values["format"] != FORMAT or values["version"] != VERSION:
            raise ArchiveError(
                f"This is a {values['format']!r} of version {values['version']!r}; expected version {VERSION}.",
                "Use the version of FaceChain that wrote it, or a newer one.",
            )
        public_key = base64.b64decode(values["public_key"], validate=True)
        entries = tuple(build(Entry, file, _MANIFEST) for file in values["files"])
        manifest = Manifest(
            kind=values["kind"], made=values["made"], signer=signing.fingerprint(public_key), entries=entries
        )
    except (ConfigError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _changed("its manifest cannot be read") from error
    if len(public_key) != signing.PUBLIC_BYTES or len(signature) != signing.SIGNATURE_BYTES:
        raise _changed("its signature has the wrong length")
    if not signing.is_signed(public_key, data, signature):
        raise _changed("its signature does not fit its manifest")
    if manifest.kind != kind:
        raise ArchiveError(f"This is an archive of a {manifest.kind}, not of a {kind}.", _USE.get(manifest.kind, ""))
    seen = set()
    for entry in entries:
        if entry.bytes < 0 or not allowed(entry.path) or entry.path.casefold() in seen:
            raise ArchiveError(f"The archive holds {entry.path!r}, which does not belong there.", "Do not use it.")
        seen.add(entry.path.casefold())
    return manifest


_USE = {
    "person": "Use `facechain people import`.",
    "workspace": "Use `facechain workspace restore`.",
}


def _extracted(source: IO[bytes], entry: Entry, into: Path) -> Iterator[int]:
    """Writes one file; yields the bytes of each chunk."""
    info = _read_header(source)
    if (info.name, info.size) != (entry.path, entry.bytes):
        raise _changed(f"{entry.path} is missing")
    target = into / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), entry.bytes
    with os.fdopen(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        while left:
            chunk = _exactly(source, min(left, CHUNK_BYTES))
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
            yield len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != entry.sha256:
        raise _changed(f"{entry.path} is not as it was packed")
    _skip_padding(source, entry.bytes)


def _changed(what: str) -> ArchiveError:
    return ArchiveError(f"The archive was changed or damaged: {what}.", "Ask for the file again.")


def _moved(path: str) -> Conflict:
    return Conflict(f"{path} was changed or deleted while it was being packed.", "Run it again.")


def is_plain_path(path: str) -> bool:
    """Whether every part of it is a plain name, so that it stays inside the folder it is joined to."""
    try:
        return all(disk.plain(part) for part in path.split("/"))
    except StoreError:
        return False
