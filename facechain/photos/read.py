"""Files into upright sRGB pixels, whatever camera, scanner or messenger made them.

What a file holds decides how it is read; where its name says something else, the photo carries a note. What cannot be
read is refused with a PhotoError that says what to do. Pictures are worked on at most `MAX_SIDE_PX` long: beyond it a
face gains nothing, and a 100-megapixel scan would cost 300 MB.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, UnidentifiedImageError

from facechain import disk
from facechain.errors import PhotoError
from facechain.photos import raw
from facechain.photos.memory import BIG_DECODED_BYTES, MAX_DECODED_BYTES, decoded_bytes
from facechain.photos.notes import note
from facechain.types import Note, NoteKind, Photo, Pixels

MAX_SIDE_PX = 4096
MAX_PIXELS = 160_000_000  # refused from the header, before anything is decoded
MAX_FRAMES = 50  # of an animation that are searched for a face

# What a suffix promises, in Pillow's format names. Phones write MPO (several JPEGs in one file) as .jpg.
FORMATS: dict[str, tuple[str, ...]] = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".jfif": ("JPEG", "MPO"),
    ".mpo": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".apng": ("PNG",),
    ".webp": ("WEBP",),
    ".heic": ("HEIF",),
    ".heif": ("HEIF",),
    ".hif": ("HEIF",),
    ".avif": ("AVIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
    **dict.fromkeys(raw.SUFFIXES, ("RAW",)),
}
_NAMES = {"MPO": "JPEG", "HEIF": "HEIC", "WEBP": "WebP"}  # of formats, where Pillow's differ from those people know

# EXIF orientation → the turn that makes it upright (EXIF 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_one_big_at_a_time = threading.Lock()  # so that threads cannot add up their peaks

pillow_heif.register_heif_opener()
# Pillow only warns between its own limit and twice that; MAX_PIXELS decides here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def find(paths: Iterable[Path | str]) -> list[Path]:
    """Picture files among `paths` and inside folders, sorted, each once.

    Hidden and system files are skipped and other files ignored; a file named by itself is kept whatever its
    suffix. Folders are entered once even when links go round in circles.
    Raises PhotoError when a path does not exist or nothing at all is found.
    """
    paths = [Path(path) for path in paths]
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(sorted(_walk(path))))
        elif path.exists():
            found[path] = None
        else:
            raise PhotoError(f"{path} does not exist.", "Check the spelling of the path.")
    if not found:
        where = ", ".join(map(str, paths)) or "an empty list"
        raise PhotoError(f"There are no pictures in {where}.", f"Name a folder with {_suffixes()} files.")
    return list(found)


def _walk(folder: Path) -> Iterator[Path]:
    entered: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        seen = Path(here).stat()
        if (seen.st_dev, seen.st_ino) in entered:
            folders.clear()
            continue
        entered.add((seen.st_dev, seen.st_ino))
        folders[:] = sorted(name for name in folders if not disk.is_system(name))
        for name in files:
            path = Path(here, name)
            if not name.startswith(".") and path.suffix.lower() in FORMATS and path.is_file():
                yield path


def file_id(path: Path | str) -> str:
    """sha256 of the file, hex; empty when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def read(path: Path | str) -> Photo:
    """One file as an upright RGB photo, its longer side at most `MAX_SIDE_PX`.

    EXIF turns are applied, colours brought to sRGB, transparency laid over white, and the first frame of an
    animation taken. Raises PhotoError for anything that is not one whole picture.
    """
    return _read(Path(path), MAX_SIDE_PX)[0]


def later_frames(path: Path | str) -> Iterator[tuple[int, Pixels]]:
    """The frames of an animation after the first, by number (the first is 1), each as `read` gives the first.

    Ends after `MAX_FRAMES`, after `MAX_PIXELS` pixels, and at a damaged frame. A JPEG's further pictures are depth and
    gain maps, so they are left out.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, _opened(file, path)[0] as image:
            frames = 1 if image.format == "MPO" else min(MAX_FRAMES, MAX_PIXELS // (image.width * image.height))
            for index in range(1, frames):
                image.seek(index)
                yield index + 1, _decode(image.copy(), MAX_SIDE_PX)  # decoding may change the picture in place
    except Exception:  # past the last frame, or damaged in one of as many ways as there are formats
        return


def read_reduced(path: Path | str, least_px: int) -> tuple[Photo, float]:
    """As `read`, but a JPEG may come out smaller, its longer side still `least_px` at least: decoded several times
    as fast. The number says how many pixels of the photo as `read` gives it one pixel stands for.
    """
    return _read(Path(path), least_px)


def _read(path: Path, least_px: int) -> tuple[Photo, float]:
    if not path.is_file():
        raise PhotoError(f"{path.name} is not a file.", "Choose a picture file.")
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise PhotoError(f"{path.name} is empty (0 bytes).", "Copy it again from the camera or the original.")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            pixels, reduction, notes = _pixels(file, path, least_px)
            return Photo(id=digest, name=path.name, pixels=pixels, notes=notes), reduction
    except PermissionError:
        raise PhotoError(f"{path.name} may not be read.", "Change the file's permissions.") from None


def check_header(path: Path) -> None:
    """Refuses, as `read` would, what is no picture or too large; decodes nothing."""
    with path.open("rb") as file:
        _opened(file, path)[0].close()


def _opened(file: BinaryIO, path: Path) -> tuple[Image.Image, tuple[Note, ...]]:
    try:
        head = file.read(16)
        file.seek(0)
        if raw.is_raw(head, path.suffix):
            image, held = raw.preview(file, path.name), "RAW"
        else:
            image = Image.open(file)
            held = image.format or ""
            if raw.holds_raw(image):
                image, held = raw.preview(file, path.name), "RAW"
    except Image.DecompressionBombError:
        raise _too_large(path.name) from None
    except UnidentifiedImageError:
        raise PhotoError(f"{path.name} is not a picture we can read.", f"Save it as one of {_suffixes()}.") from None
    except PhotoError:
        raise
    except Exception as error:  # a damaged header fails in as many ways as there are formats
        raise _damaged(path.name, error) from None
    try:
        notes = _header_notes(held, image.size, path)
        if image.width * image.height > MAX_PIXELS or decoded_bytes(image) > MAX_DECODED_BYTES:
            raise _too_large(path.name, image.size)
    except PhotoError:
        image.close()
        raise
    return image, notes


def _pixels(file: BinaryIO, path: Path, least_px: int) -> tuple[np.ndarray, float, tuple[Note, ...]]:
    image, notes = _opened(file, path)
    with image:
        try:
            with _one_big_at_a_time if decoded_bytes(image) > BIG_DECODED_BYTES else nullcontext():
                whole_side = min(MAX_SIDE_PX, max(image.size))
                pixels = _decode(image, least_px)
                return pixels, whole_side / max(pixels.shape[:2]), notes
        except MemoryError:
            raise PhotoError(f"{path.name} does not fit into memory.", "Make it smaller and try again.") from None
        except Exception as error:  # as above, for the body
            raise _damaged(path.name, error) from None


def _header_notes(held: str, size: tuple[int, int], path: Path) -> tuple[Note, ...]:
    """What is remarkable about a file of the format `held`. Raises PhotoError for a format that is not read."""
    readable = {name for names in FORMATS.values() for name in names}
    if held not in readable:
        raise PhotoError(f"{path.name} is a {held} file.", f"Save it as one of {_suffixes()}.")
    notes = []
    if held not in FORMATS.get(path.suffix.lower(), (held,)):
        notes.append(note(NoteKind.OTHER_FORMAT, _NAMES.get(held, held)))
    if held == "RAW":
        notes.append(note(NoteKind.RAW_PREVIEW, f"{size[0]} × {size[1]}"))
    return tuple(notes)


def _decode(image: Image.Image, least_px: int) -> np.ndarray:
    shrink = min(1.0, least_px / max(image.size))
    if shrink < 1 and image.format in ("JPEG", "MPO"):
        # libjpeg decodes at 1/2, 1/4 or 1/8 directly, never below the size asked for.
        image.draft(None, (int(image.width * shrink), int(image.height * shrink)))
    image.load()
    orientation, profile = _orientation(image), image.info.get("icc_profile")  # loading a TIFF turns it already
    picture = _eight_bit(image)
    picture = _over_white(picture)
    if max(picture.size) > MAX_SIDE_PX:
        picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
    picture = _to_srgb(picture, profile)
    if orientation in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[orientation])
    return np.array(picture)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # broken EXIF does not spoil the picture
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey brought to 8 bits; everything else as it is."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        # The file does not say its range: take the smallest usual one that holds the brightest pixel.
        top = next((top for top in (1.0, 255.0, 65535.0) if values.max() <= top), 4294967295.0)
        if image.mode == "I" and top == 1.0:
            top = 255.0
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))
    return image


def _over_white(image: Image.Image) -> Image.Image:
    """Transparency composited over white, rare modes converted. Modes out: L, RGB and CMYK."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours as sRGB; a profile that is broken or for another kind of picture is ignored."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
                return converted if converted is not None else image.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image if image.mode == "RGB" else image.convert("RGB")


def _suffixes() -> str:
    return "JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, GIF or RAW"


def _too_large(name: str, size: tuple[int, int] | None = None) -> PhotoError:
    how = f" ({size[0]} × {size[1]} pixels)" if size else ""
    return PhotoError(
        f"{name} is too large to open safely{how}.",
        f"Make it smaller than {MAX_PIXELS // 10**6} megapixels, or save it as a JPEG, which takes less memory.",
    )


def _damaged(name: str, error: Exception) -> PhotoError:
    return PhotoError(
        f"{name} is damaged or cut short ({error or type(error).__name__}).",
        "Copy it again from the camera or the original.",
    )
