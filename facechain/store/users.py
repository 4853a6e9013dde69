"""Who may use the server: names and the digests of their tokens, in one file only the server's owner can read.

A token is 256 random bits, so its plain SHA-256 cannot be searched; the token itself is shown once and kept nowhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from facechain import disk
from facechain.errors import PersonExists, PersonMissing, StoreError

_PREFIX = "fc_"


@dataclass(frozen=True, kw_only=True)
class User:
    name: str
    slug: str  # names the workspace under users/
    added: str  # UTC, ISO 8601


@dataclass(frozen=True, kw_only=True)
class _Entry(User):
    sha256: str  # of the token


class Users:
    """`folder` is the workspace; its users.json is read again whenever it changes, so a running server follows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "users.json"
        self._read: tuple[tuple[int, int], tuple[_Entry, ...]] = ((0, 0), ())

    def list(self) -> tuple[User, ...]:
        return tuple(User(name=entry.name, slug=entry.slug, added=entry.added) for entry in self._entries())

    def check(self, slug: str) -> None:
        """Raises PersonMissing for nobody."""
        _one(list(self._entries()), slug)

    def add(self, name: str, slug: str) -> str:
        """A new user's token. Raises PersonExists when the slug is taken."""
        disk.plain(slug)
        with self._changing() as entries:
            if any(entry.slug == slug for entry in entries):
                raise PersonExists(
                    f"There is already a user {slug!r}.", f"Give them a new token: facechain users renew {slug}"
                )
            token = _PREFIX + secrets.token_urlsafe(32)
            added = datetime.now(UTC).isoformat(timespec="seconds")
            entries.append(_Entry(name=name, slug=slug, added=added, sha256=_digest(token)))
        return token

    def renew(self, slug: str) -> str:
        """A new token; the old one opens nothing any more. Raises PersonMissing for nobody."""
        with self._changing() as entries:
            old = _one(entries, slug)
            token = _PREFIX + secrets.token_urlsafe(32)
            entries[entries.index(old)] = _Entry(name=old.name, slug=slug, added=old.added, sha256=_digest(token))
        return token

    def remove(self, slug: str, with_data: bool = False) -> None:
        """Takes the token away, and on request deletes everything of theirs. Raises PersonMissing for nobody."""
        disk.plain(slug)
        with self._changing() as entries:
            entries.remove(_one(entries, slug))
        home = self._folder / "users" / slug
        if with_data and home.is_dir():
            doomed = home.with_name(f".{secrets.token_hex(8)}")
            disk.move(home, doomed)
            shutil.rmtree(doomed)

    def who(self, token: str) -> str | None:
        """The slug this token belongs to. Takes equally long whether, and whichever, it matches."""
        given, found = _digest(token), None
        for entry in self._entries():
            if hmac.compare_digest(given, entry.sha256):
                found = entry.slug
        return found

    def _entries(self) -> tuple[_Entry, ...]:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return ()
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._read[0]:
            self._read = (stamp, self._load())
        return self._read[1]

    def _load(self) -> tuple[_Entry, ...]:
        try:
            return tuple(_Entry(**entry) for entry in json.loads(self._file.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{self._file} is damaged.", "Delete it and add the users again.") from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[_Entry]]:
        with disk.errors(self._folder, "FACECHAIN_WORKSPACE"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with disk.locked(self._folder / ".users.lock"):
                entries = list(self._entries())
                yield entries
                part = self._file.with_name(f".users.{secrets.token_hex(4)}")
                os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                disk.write(part, json.dumps([asdict(entry) for entry in entries], indent=1).encode())
                disk.move(part, self._file)


def _one(entries: list[_Entry], slug: str) -> _Entry:
    for entry in entries:
        if entry.slug == slug:
            return entry
    raise PersonMissing(f"There is no user {slug!r}.", "See `facechain users list`.")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
