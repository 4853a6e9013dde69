"""Who made an archive: an Ed25519 key of the workspace's own, made when something is signed for the first time.

The key stays in this workspace; what others compare is the fingerprint of its public half.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from facechain import disk
from facechain.errors import StoreError

FILE = "signing.key"
SIGNATURE_BYTES = 64
PUBLIC_BYTES = 32
_SEED_BYTES = 32
_CONTEXT = b"facechain archive manifest\0"  # a signature made for anything else is not one of an archive


def signing_key(folder: Path) -> SigningKey:
    """The workspace's key. Only for who holds the workspace. Raises StoreError when its file is damaged."""
    path = folder / FILE
    if not path.exists():
        part = folder / f".{FILE}.{secrets.token_hex(4)}"
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        disk.write(part, bytes(SigningKey.generate()))
        disk.move(part, path)
    seed = path.read_bytes()
    if len(seed) != _SEED_BYTES:
        raise StoreError(
            f"{path} is damaged: {len(seed)} bytes, expected {_SEED_BYTES}.",
            "Restore it from a copy, or delete it: the next export makes a new key.",
        )
    return SigningKey(seed)


def own_fingerprint(folder: Path) -> str:
    """Of the workspace's key; "" while there is none."""
    return fingerprint(bytes(signing_key(folder).verify_key)) if (folder / FILE).exists() else ""


def fingerprint(public_key: bytes) -> str:
    """Half of the key's SHA-256 (128 bits) as four groups of eight hexadecimal digits."""
    digest = hashlib.sha256(public_key).hexdigest()
    return "-".join(digest[at : at + 8] for at in range(0, 32, 8))


def sign(key: SigningKey, manifest: bytes) -> bytes:
    """(64,) bytes of Ed25519."""
    return key.sign(_CONTEXT + manifest).signature


def is_signed(public_key: bytes, manifest: bytes, signature: bytes) -> bool:
    """Whether the owner of this public key signed this manifest."""
    try:
        VerifyKey(public_key).verify(_CONTEXT + manifest, signature)
    except BadSignatureError:
        return False
    return True
