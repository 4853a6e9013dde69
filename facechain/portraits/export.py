"""Kept portraits leave the workspace: copies, and a sheet to look at them together."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facechain.errors import StoreError
from facechain.types import Pixels

_CELL_PX = 320
_TEXT_PX = 15


def copy_all(pictures: Sequence[Path], folder: Path) -> None:
    """Raises StoreError when the folder cannot be written or the disk is full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            part = folder / f".{picture.name}.part"
            shutil.copyfile(picture, part)
            part.replace(folder / picture.name)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}.", "Choose another folder with --out."
        ) from error


def zip_all(pictures: Sequence[tuple[str, Path]], to: BinaryIO) -> None:
    """Pictures under these names; equal names are told apart by a number. They are compressed already."""
    taken: dict[str, int] = {}
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
        for name, picture in pictures:
            taken[name] = taken.get(name, 0) + 1
            stem, _, ending = name.rpartition(".")
            archive.write(picture, name if taken[name] == 1 else f"{stem}-{taken[name]}.{ending}")


def contact_sheet(pictures: Sequence[tuple[Pixels, str]], columns: int = 4) -> Pixels:
    """Pictures with a caption of up to two lines below each, on white."""
    text_px = 2 * _TEXT_PX + 12
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * _CELL_PX, rows * (_CELL_PX + text_px)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_PX)
    for index, (pixels, caption) in enumerate(pictures):
        left, top = index % columns * _CELL_PX, index // columns * (_CELL_PX + text_px)
        picture = Image.fromarray(pixels)
        picture.thumbnail((_CELL_PX - 8, _CELL_PX - 8), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left + (_CELL_PX - picture.width) // 2, top + (_CELL_PX - picture.height) // 2))
        draw.multiline_text((left + 6, top + _CELL_PX), caption, fill="black", font=font, spacing=3)
    return np.asarray(sheet)
