"""Camera RAW files, by the preview their camera embedded, through LibRaw.

The preview is what the camera's own JPEG would look like, mostly at full size; developing the sensor's data instead
takes seconds and gigabytes, and gains a face nothing at the sizes used here. LibRaw's OpenMP code, which deadlocks in
forked processes, is not reached.
"""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from facechain.errors import PhotoError

SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw")
_LEAST_PX = 640  # longer side; smaller previews are thumbnails
_NEXT_STEP = "Export a JPEG from your photo program and use that."

# Formats that are not TIFF: Fujifilm RAF, Olympus ORF, Panasonic RW2; and Canon's CR3, in an ISO media file.
_SIGNATURES = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_CR3 = b"ftypcrx "
_TIFF = (b"II*\0", b"MM\0*")

_NEW_SUBFILE_TYPE, _DNG_VERSION = 254, 50706  # TIFF tags


def is_raw(head: bytes, suffix: str) -> bool:
    """By the first 16 bytes; most cameras write TIFF files, where the suffix decides."""
    return head.startswith(_SIGNATURES) or head[4:12] == _CR3 or (head.startswith(_TIFF) and suffix.lower() in SUFFIXES)


def holds_raw(image: Image.Image) -> bool:
    """Whether a TIFF file of any name is a RAW one: a DNG, or one whose first picture is a reduced copy of another."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return _DNG_VERSION in image.tag_v2 or image.tag_v2.get(_NEW_SUBFILE_TYPE) == 1


def preview(file: BinaryIO, name: str) -> Image.Image:
    """The embedded preview, opened and not yet decoded, with the EXIF orientation of the RAW file.

    Raises PhotoError when LibRaw cannot read the file or the preview is too small.
    """
    import rawpy  # few people need it

    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            thumb = raw.extract_thumb()
    except (rawpy.LibRawError, rawpy.NotSupportedError):
        raise PhotoError(f"{name} is a RAW file without a readable preview.", _NEXT_STEP) from None
    data = thumb.data
    image = Image.open(BytesIO(data), formats=("JPEG",)) if isinstance(data, bytes) else Image.fromarray(data)
    if max(image.size) < _LEAST_PX:
        size = f"{image.width} × {image.height} pixels"
        raise PhotoError(f"{name} is a RAW file whose preview has only {size}.", _NEXT_STEP)
    return image
