"""Pictures are refused by what they would take in memory, told from the header: a few bytes may name any size."""

import struct
import zlib

import pytest
from PIL import Image

from facechain.errors import PhotoError
from facechain.photos.memory import decoded_bytes
from facechain.photos.read import check_header

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG colour types


def png(side_px, depth, colours):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    shape = struct.pack(">IIBBBBB", side_px, side_px, depth, colours, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", bytes(2)) if colours == PALETTE else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", shape) + palette + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def tiff(side_px, depth, kind):
    """One grey channel; `kind` 1 for whole numbers, 3 for floating point."""
    tags = {256: side_px, 257: side_px, 258: depth, 259: 1, 262: 1, 273: 8, 277: 1, 278: side_px, 279: 1, 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("name", "data", "fits"),
    [
        ("scan.png", png(9_900, 8, RGB), True),  # 98 megapixels
        ("scan.png", png(12_000, 8, GREY), True),
        ("scan.png", png(6_000, 8, RGBA), True),
        ("bomb.png", png(12_000, 8, RGB), False),
        ("bomb.png", png(9_000, 8, RGBA), False),  # 1.6 GB
        ("bomb.png", png(9_000, 16, RGBA), False),
        ("bomb.png", png(9_000, 8, GREY_ALPHA), False),
        ("bomb.png", png(9_000, 8, PALETTE), False),
        ("bomb.png", png(12_600, 16, GREY), False),
        ("map.tif", tiff(5_000, 32, 3), True),
        ("bomb.tif", tiff(9_000, 32, 3), False),  # 2.3 GB
        ("bomb.tif", tiff(9_000, 32, 1), False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_limit_is_of_memory_not_of_pixels(tmp_path, name, data, fits):
    path = tmp_path / name
    path.write_bytes(data)
    if fits:
        check_header(path)
    else:
        with pytest.raises(PhotoError, match="too large to open safely"):
            check_header(path)


def test_every_mode_has_an_estimate():
    for mode in Image.MODES:
        assert decoded_bytes(Image.new(mode, (10, 10))) >= 400, mode
