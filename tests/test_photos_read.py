"""A corpus of some 300 hostile and odd files, built here: each is read rightly or refused with a next step."""

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from facechain.errors import PhotoError
from facechain.photos import read as reading
from facechain.photos.read import FORMATS, MAX_SIDE_PX, check_header, find, read
from facechain.types import NoteKind

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::RuntimeWarning")

# Four flat quarters: red, green / blue, grey. Large enough to survive chroma subsampling and lossy codecs.
QUARTERS = np.zeros((64, 96, 3), np.uint8)
QUARTERS[:32, :48] = (200, 30, 30)
QUARTERS[:32, 48:] = (30, 160, 40)
QUARTERS[32:, :48] = (30, 50, 190)
QUARTERS[32:, 48:] = (128, 128, 128)
SUFFIXES = [".jpg", ".png", ".webp", ".heic", ".avif", ".tif", ".bmp", ".gif"]
FORMAT_OF = {suffix: names[0] for suffix, names in FORMATS.items()}


def encoded(image: Image.Image, suffix: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, FORMAT_OF[suffix], **options)
    return buffer.getvalue()


def quarter_colours(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.array([pixels[height * y // 4, width * x // 4] for y in (1, 3) for x in (1, 3)]).astype(int)


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


COLOUR = [
    (suffix, mode)
    for suffix, modes in {
        ".jpg": ["RGB", "CMYK"],
        ".png": ["RGB", "RGBA", "P"],
        ".webp": ["RGB", "RGBA"],
        ".heic": ["RGB", "RGBA"],
        ".avif": ["RGB", "RGBA"],
        ".tif": ["RGB", "RGBA", "CMYK", "P", "LAB"],
        ".bmp": ["RGB", "RGBA", "P"],
        ".gif": ["RGB", "P"],
    }.items()
    for mode in modes
]


def in_mode(mode: str) -> Image.Image:
    image = Image.fromarray(QUARTERS)
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
        assert converted is not None
        return converted
    return image.quantize(16) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize(("suffix", "mode"), COLOUR)
def test_every_format_and_mode_keeps_its_colours(tmp_path, suffix, mode):
    path = written(tmp_path, f"a{suffix}", encoded(in_mode(mode), suffix))
    photo = read(path)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.shape == QUARTERS.shape
    assert np.abs(quarter_colours(photo.pixels) - quarter_colours(QUARTERS)).max() <= 14
    assert photo.id == hashlib.sha256(path.read_bytes()).hexdigest()
    assert photo.name == f"a{suffix}"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".heic"])
def test_exif_turns_are_applied(tmp_path, suffix, orientation):
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(QUARTERS)))
    photo = read(written(tmp_path, f"a{suffix}", encoded(stored, suffix, exif=exif.tobytes())))
    assert photo.pixels.shape == QUARTERS.shape
    assert np.abs(quarter_colours(photo.pixels) - quarter_colours(QUARTERS)).max() <= 14


GREY_RAMP = np.linspace(0, 65535, 96, dtype=np.uint16)[None].repeat(64, 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["I;16", "L", "1", "LA", "F", "I"])
def test_grey_of_every_depth_spans_black_to_white(tmp_path, suffix, kind):
    if suffix == ".png" and kind == "F":
        pytest.skip("PNG has no floating point")
    eight = Image.fromarray((GREY_RAMP >> 8).astype(np.uint8))
    image = {
        "I;16": lambda: Image.fromarray(GREY_RAMP),
        "L": lambda: eight,
        "1": lambda: eight.point(lambda v: 255 * (v > 127)).convert("1"),
        "LA": lambda: eight.convert("LA"),
        "F": lambda: Image.fromarray(GREY_RAMP.astype(np.float32) / 65535),
        "I": lambda: Image.fromarray(GREY_RAMP.astype(np.int32)),
    }[kind]()
    pixels = read(written(tmp_path, f"a{suffix}", encoded(image, suffix))).pixels
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert pixels[5, 1, 0] < 8
    assert pixels[5, -1, 0] > 247
    assert (np.diff(pixels[5, :, 0].astype(int)) >= 0).all()


def test_sixteen_bit_colour(tmp_path):
    deep = QUARTERS.astype(">u2") * 257
    raw = b"".join(b"\0" + row.tobytes() for row in deep)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    photo = read(written(tmp_path, "a.png", b"\x89PNG\r\n\x1a\n" + body))
    assert (photo.pixels == QUARTERS).all()


@pytest.mark.parametrize("named", SUFFIXES)
@pytest.mark.parametrize("held", SUFFIXES)
def test_what_a_file_holds_decides_and_another_name_is_noted(tmp_path, named, held):
    path = written(tmp_path, f"a{named}", encoded(Image.fromarray(QUARTERS), held))
    check_header(path)
    photo = read(path)
    assert np.abs(quarter_colours(photo.pixels) - quarter_colours(QUARTERS)).max() <= 14
    told = {".jpg": "JPEG", ".webp": "WebP", ".heic": "HEIC", ".tif": "TIFF"}.get(held, held[1:].upper())
    assert [(note.kind, note.detail) for note in photo.notes] == [(NoteKind.OTHER_FORMAT, told)] * (named != held)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif", ".heic"])
def test_transparency_is_laid_over_white(tmp_path, suffix):
    image = Image.fromarray(QUARTERS).convert("RGBA")
    alpha = np.full(QUARTERS.shape[:2], 255, np.uint8)
    alpha[:, :48] = 0
    image.putalpha(Image.fromarray(alpha))
    pixels = read(written(tmp_path, f"a{suffix}", encoded(image, suffix))).pixels
    assert pixels[16, 16].min() > 240
    assert abs(int(pixels[16, 72, 1]) - 160) < 15


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    image = Image.fromarray(QUARTERS).quantize(8)
    clear = int(np.asarray(image)[10, 10])
    for suffix in (".png", ".gif"):
        pixels = read(written(tmp_path, f"a{suffix}", encoded(image, suffix, transparency=clear))).pixels
        assert pixels[10, 10].min() > 250


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif", ".tif"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.fromarray(QUARTERS), Image.fromarray(255 - QUARTERS)]
    data = encoded(frames[0], suffix, save_all=True, append_images=frames[1:])
    pixels = read(written(tmp_path, f"a{suffix}", data)).pixels
    assert np.abs(quarter_colours(pixels) - quarter_colours(QUARTERS)).max() <= 14


def test_a_colour_profile_is_applied(tmp_path):
    """A profile whose red and blue are swapped must swap them back; a broken one is ignored."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    for at in range(132, 132 + 12 * count, 12):
        if (tag := profile[at : at + 4]) in (b"rXYZ", b"bXYZ"):
            profile[at : at + 4] = b"bXYZ" if tag == b"rXYZ" else b"rXYZ"
    profile = bytes(profile).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    swapped = Image.fromarray(np.ascontiguousarray(QUARTERS[..., ::-1]))
    pixels = read(written(tmp_path, "a.png", encoded(swapped, ".png", icc_profile=profile))).pixels
    assert np.abs(quarter_colours(pixels) - quarter_colours(QUARTERS)).max() <= 14
    pixels = read(written(tmp_path, "b.png", encoded(swapped, ".png", icc_profile=b"nonsense" * 30))).pixels
    assert (pixels == np.asarray(swapped)).all()


def test_a_scan_of_a_hundred_megapixels_is_worked_on_reduced(tmp_path):
    scan = Image.new("L", (11600, 8700), 90)
    for suffix, options in ((".jpg", {}), (".png", {"compress_level": 1})):
        path = tmp_path / f"scan{suffix}"
        scan.save(path, **options)
        pixels = read(path).pixels
        assert max(pixels.shape) == MAX_SIDE_PX
        assert pixels.shape[0] / pixels.shape[1] == pytest.approx(8700 / 11600, rel=1e-3)
        assert abs(int(pixels[100, 100, 0]) - 90) < 2


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


def refused(path: Path) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        read(path)
    assert path.name in caught.value.what
    assert caught.value.next_step
    return caught.value


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))


@pytest.mark.parametrize("keep", [0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_refused(tmp_path, suffix, keep):
    data = encoded(NOISE, suffix)
    refused(written(tmp_path, f"a{suffix}", data[: max(1, int(len(data) * keep))]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_zero_bytes_are_refused(tmp_path, suffix):
    assert "empty" in refused(written(tmp_path, f"a{suffix}", b"")).what


JUNK = {
    "text": b"I am not a picture.\n" * 40,
    "zeros": bytes(4096),
    "noise": np.random.default_rng(1).bytes(4096),
    "html": b"<!doctype html><html><body>404</body></html>",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    "zip": b"PK\x03\x04" + bytes(200),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_files_under_a_picture_name_are_refused(tmp_path, suffix, junk):
    refused(written(tmp_path, f"a{suffix}", JUNK[junk]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bytes_never_do_worse_than_a_refusal(tmp_path, suffix):
    data = encoded(NOISE, suffix)
    random = np.random.default_rng(len(data))
    for turn in range(12):
        bad = bytearray(data)
        for at in random.integers(0, len(bad), 8):
            bad[at] ^= int(random.integers(1, 256))
        path = written(tmp_path, f"{turn}{suffix}", bytes(bad))
        try:
            pixels = read(path).pixels
        except PhotoError as error:
            assert error.next_step  # noqa: PT017 - either outcome is right
        else:
            assert pixels.ndim == 3
            assert pixels.dtype == np.uint8


def png_header(width: int, height: int) -> bytes:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (ihdr, idat, b"IEND")
    )


@pytest.mark.parametrize("side", [13_000, 14_000, 30_000, 200_000, 2_000_000_000])
def test_decompression_bombs_are_refused_from_the_header(tmp_path, side, monkeypatch):
    def decoded(image):
        raise AssertionError("decoded")

    monkeypatch.setattr(reading, "_decode", decoded)
    assert "too large" in refused(written(tmp_path, "bomb.png", png_header(side, side))).what
    bmp = bytearray(encoded(NOISE, ".bmp"))
    bmp[18:26] = struct.pack("<ii", min(side, 2**30), min(side, 2**30))
    assert "too large" in refused(written(tmp_path, "bomb.bmp", bytes(bmp))).what


def test_a_text_bomb_in_a_png_is_refused(tmp_path):
    text = b"zTXtbomb\0\0" + zlib.compress(bytes(80_000_000))
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    data = encoded(NOISE, ".png")
    refused(written(tmp_path, "a.png", data[:33] + chunk + data[33:]))


def test_pipes_folders_and_missing_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(tmp_path / "pipe.jpg")
    refused(tmp_path / "missing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    refused(tmp_path / "folder.jpg")


def test_other_picture_formats_are_named(tmp_path):
    NOISE.save(tmp_path / "a.ppm")
    assert "PPM" in refused(tmp_path / "a.ppm").what


# ── finding ──────────────────────────────────────────────────────────────────────────────────────


def test_folders_are_searched_sorted_and_only_for_pictures(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.heic", ".hidden.jpg", "._a.png", "notes.txt", "Thumbs.db", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "d.jpg").touch()
    found = [str(path.relative_to(tmp_path)) for path in find([tmp_path])]
    assert found == ["a.png", "b.JPG", "sub/c.heic"]
    assert find([tmp_path, tmp_path / "a.png"]) == find([tmp_path])


def test_links_in_circles_end(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert len(find([tmp_path])) == 1


def test_a_folder_without_pictures_and_a_missing_path_are_told(tmp_path):
    with pytest.raises(PhotoError, match="no pictures"):
        find([tmp_path])
    with pytest.raises(PhotoError, match="does not exist"):
        find([tmp_path / "gone"])


def test_ten_thousand_files(tmp_path):
    for index in range(10_000):
        (tmp_path / f"{index:05}.jpg").touch()
    found = find([tmp_path])
    assert len(found) == 10_000
    assert found == sorted(found)
