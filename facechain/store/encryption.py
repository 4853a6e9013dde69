"""A stream of bytes under a passphrase: Argon2id makes the key, libsodium's secretstream encrypts.

    magic                                                          so that an encrypted file is recognised
    salt                16 bytes
    secretstream header 24 bytes
    frames              64 KiB of plaintext + 17 bytes each; only the last is shorter, and marked as the last

secretstream (XChaCha20-Poly1305) detects frames that were changed, reordered, repeated or left out, and a missing end:
https://doc.libsodium.org/secret-key_cryptography/secretstream
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any

from nacl import bindings
from nacl.exceptions import RuntimeError as SodiumError
from nacl.pwhash import argon2id
from nacl.utils import random

from facechain.errors import ArchiveError

MAGIC = b"facechain encrypted archive 1\n"
LEAST_PASSPHRASE = 10  # characters
FRAME_BYTES = 64 * 1024

_SALT_BYTES = argon2id.SALTBYTES
_HEADER_BYTES = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_ADDED_BYTES = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
_MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL

# libsodium's "moderate" cost: 3 passes over 256 MiB. One at a time, or many uploads would fill the memory.
PASSES, MEMORY_BYTES = argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE
_deriving = threading.Lock()


def check_passphrase(passphrase: str) -> None:
    """Raises ArchiveError when it is too short to protect anything."""
    if len(passphrase) < LEAST_PASSPHRASE:
        raise ArchiveError(
            f"The passphrase has {len(passphrase)} characters.", f"Use at least {LEAST_PASSPHRASE}, such as four words."
        )


def encrypted(chunks: Iterable[bytes], passphrase: str) -> Iterator[bytes]:
    """These bytes encrypted. Raises ArchiveError, at once, for a passphrase that is too short."""
    check_passphrase(passphrase)
    return _encrypted(chunks, passphrase)


def _encrypted(chunks: Iterable[bytes], passphrase: str) -> Iterator[bytes]:
    salt = random(_SALT_BYTES)
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    header = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, _key(passphrase, salt))
    yield MAGIC + salt + header
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) > FRAME_BYTES:  # never all of it: the last frame is marked
            yield _push(state, bytes(held[:FRAME_BYTES]), _MESSAGE)
            del held[:FRAME_BYTES]
    yield _push(state, bytes(held), _FINAL)


def _push(state: bindings.crypto_secretstream_xchacha20poly1305_state, data: bytes, tag: int) -> bytes:
    return bindings.crypto_secretstream_xchacha20poly1305_push(state, data, None, tag)


def _key(passphrase: str, salt: bytes) -> bytes:
    secret = passphrase.encode("utf-8", "surrogatepass")
    with _deriving:
        return argon2id.kdf(
            bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES,
            secret,
            salt,
            opslimit=PASSES,
            memlimit=MEMORY_BYTES,
        )


class Decrypted(io.RawIOBase):
    """Reads the plaintext of a stream whose magic has been read already.

    Raises ArchiveError for a wrong passphrase and for whatever was changed or is missing.
    """

    def __init__(self, source: IO[bytes], passphrase: str) -> None:
        salt, header = source.read(_SALT_BYTES), source.read(_HEADER_BYTES)
        if len(salt) + len(header) < _SALT_BYTES + _HEADER_BYTES:
            raise _cut_short()
        self._source = source
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        bindings.crypto_secretstream_xchacha20poly1305_init_pull(self._state, header, _key(passphrase, salt))
        self._held = b""
        self._first, self._ended = True, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held and not self._ended:
            self._held = self._next()
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size

    def _next(self) -> bytes:
        frame = self._source.read(FRAME_BYTES + _ADDED_BYTES)
        if len(frame) < _ADDED_BYTES:
            raise _cut_short()
        try:
            data, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(self._state, frame)
        except SodiumError:
            if self._first:
                raise ArchiveError(
                    "The archive cannot be decrypted: the passphrase is wrong, or the file was changed.",
                    "Check the passphrase; if it is right, ask for the file again.",
                ) from None
            if len(frame) < FRAME_BYTES + _ADDED_BYTES:
                raise _cut_short() from None
            raise ArchiveError("The encrypted archive was changed or damaged.", "Ask for the file again.") from None
        self._first = False
        if tag == _FINAL:
            self._ended = True
            if self._source.read(1):
                raise ArchiveError("Something follows the end of the archive.", "Ask for the file again.")
        elif len(frame) < FRAME_BYTES + _ADDED_BYTES:
            raise _cut_short()
        return data


def _cut_short() -> ArchiveError:
    return ArchiveError("The archive is cut short.", "Copy or download it again.")
