"""What exporting and importing have in common: the passphrase, and files that appear when they are whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, TypeVar

import typer

from facechain.errors import ArchiveError, PassphraseMissing, UserError

VARIABLE = "FACECHAIN_PASSPHRASE"

Archive = Annotated[Path, typer.Argument(help="The archive.")]
Out = Annotated[Path, typer.Option(help="File to write; it must not exist yet.")]
Encrypt = Annotated[bool, typer.Option("--encrypt", help=f"Ask for a passphrase, or take it from {VARIABLE}.")]
TrustSigner = Annotated[
    str, typer.Option(help="Fingerprint of the sender's key, after you have compared it with theirs.")
]

T = TypeVar("T")


def new_passphrase(encrypt: bool) -> str:
    """For an archive to be written; "" unless it is to be encrypted."""
    if not encrypt:
        return ""
    if given := os.environ.get(VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise UserError("There is no passphrase to encrypt with.", f"Set {VARIABLE}, or run it in a terminal.")
    return typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True)


def opened(archive: Path, read: Callable[[IO[bytes], str], T]) -> T:
    """What `read` makes of the file and its passphrase, which is asked for when one is needed."""
    try:
        with archive.open("rb") as file:
            try:
                return read(file, os.environ.get(VARIABLE, ""))
            except PassphraseMissing:
                if not sys.stdin.isatty():
                    raise PassphraseMissing(f"Set {VARIABLE}, or run it in a terminal.") from None
                file.seek(0)
                return read(file, typer.prompt("Passphrase", hide_input=True))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ArchiveError(f"{archive} cannot be opened: {error.strerror}.", "Check the file's name.") from None
