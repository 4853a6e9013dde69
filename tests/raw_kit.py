"""A camera RAW file, written here: a DNG of a flat grey sensor with a preview in its first directory."""

import io
import struct

import numpy as np
from PIL import Image

SIDE_PX = 64  # of the sensor
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 10: "ii"}  # TIFF field types


def dng(preview: Image.Image | None, orientation: int = 1) -> bytes:
    """`orientation` as in EXIF; `preview` as the camera stores it, not turned."""
    sensor = np.full((SIDE_PX, SIDE_PX), 20000, "<u2").tobytes()
    jpeg = io.BytesIO()
    if preview is not None:
        preview.save(jpeg, "JPEG", quality=92)

    def parts(second: int, jpeg_at: int, sensor_at: int) -> tuple[bytes, bytes]:
        """Both directories; their sizes do not depend on the offsets."""
        identity = [(int(row == column), 1) for row in range(3) for column in range(3)]
        camera = [
            *((271, 2, b"Test\0"), (272, 2, b"Camera\0"), (274, 3, [orientation]), (50706, 1, [1, 4, 0, 0])),
            *((50708, 2, b"Test Camera\0"), (50721, 10, identity), (50728, 5, [(1, 1)] * 3), (50778, 3, [21])),
        ]
        bayer = [
            *((254, 4, [0]), (256, 4, [SIDE_PX]), (257, 4, [SIDE_PX]), (258, 3, [16]), (259, 3, [1])),
            *((262, 3, [32803]), (273, 4, [sensor_at]), (277, 3, [1]), (278, 4, [SIDE_PX]), (279, 4, [len(sensor)])),
            *((33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]), (50714, 3, [0]), (50717, 4, [65535])),
        ]
        if preview is None:
            return _directory([*camera, *bayer], 8), b""
        width, height = preview.size
        reduced = [
            *((254, 4, [1]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]), (259, 3, [7]), (262, 3, [6])),
            *((273, 4, [jpeg_at]), (277, 3, [3]), (278, 4, [height]), (279, 4, [len(jpeg.getvalue())])),
            (330, 4, [second]),
        ]
        return _directory([*camera, *reduced], 8), _directory(bayer, second)

    first, second = parts(0, 0, 0)
    second_at = 8 + len(first)
    jpeg_at = second_at + len(second)
    first, second = parts(second_at, jpeg_at, jpeg_at + len(jpeg.getvalue()))
    return b"II*\0\x08\0\0\0" + first + second + jpeg.getvalue() + sensor


def _directory(fields: list, at: int) -> bytes:
    """A TIFF directory at this offset of the file, with the values that do not fit into it behind it."""
    entries, values = struct.pack("<H", len(fields)), b""
    after = at + 2 + 12 * len(fields) + 4
    for tag, kind, items in sorted(fields, key=lambda field: field[0]):
        packed = b"".join(struct.pack("<" + _CODES[kind], *(i if isinstance(i, tuple) else (i,))) for i in items)
        held = packed.ljust(4, b"\0")
        if len(packed) > 4:
            held, values = struct.pack("<I", after + len(values)), values + packed + b"\0" * (len(packed) % 2)
        entries += struct.pack("<HHI", tag, kind, len(items)) + held
    return entries + struct.pack("<I", 0) + values
