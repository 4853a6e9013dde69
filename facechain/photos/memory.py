"""What a picture takes in memory while it is decoded, told from its header."""

from __future__ import annotations

from PIL import Image

MAX_DECODED_BYTES = 900_000_000
BIG_DECODED_BYTES = 240_000_000  # of 30 megapixels in RGB

# Bytes a pixel takes at the peak of decoding and converting: channels × bytes a channel × copies. Pillow keeps three
# channels in four bytes; greyscale of more than 16 bits is converted by way of 64-bit floats.
# Keys are the first four letters of Pillow's modes.
_BY_MODE = {"1": 9, "L": 4, "P": 9, "I;16": 6, "RGB": 8, "YCbC": 8, "CMYK": 8, "LAB": 12, "I": 28, "F": 28}
_TRANSPARENT = 20  # the picture, a copy in RGBA, the white behind it, both together, and that in RGB
_WHOLE_FRAMES = 8  # more, where the format's own library decodes into a frame of its own first
_JPEG = 5  # read at half size or less where it is large


def decoded_bytes(image: Image.Image) -> int:
    """At the peak of decoding an opened picture and bringing it to 8-bit RGB, estimated."""
    if image.format in ("JPEG", "MPO"):
        per_px = _JPEG
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        per_px = _TRANSPARENT
    else:
        per_px = _BY_MODE.get(image.mode[:4], max(_BY_MODE.values()))  # I;16 comes as I;16B and I;16L, too
    if image.format in ("WEBP", "AVIF", "HEIF"):
        per_px += _WHOLE_FRAMES
    return image.width * image.height * per_px
