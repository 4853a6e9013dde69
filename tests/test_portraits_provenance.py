"""Recipe and mark are in the file, readable by other tools, and say nothing of the person."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from facechain import __version__
from facechain.errors import PhotoError, StoreError
from facechain.portraits import provenance

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
RECIPE: dict[str, Any] = {
    "engine": "template",
    "packs": {"yunet": "abc"},
    "style": "astronaut",
    "seed": 3,
    "shot": {
        "index": 0,
        "seed": 77,
        "prompt": "a <portrait> & 笑",
        "negative": "blur",
        "width_px": 64,
        "height_px": 48,
    },
    "seconds": 1.5,
}
ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
formats = pytest.mark.parametrize("format", ENDINGS)


def saved(folder: Path, format: str, recipe: dict[str, Any], generated: bool = False) -> Path:
    path = folder / f"picture{ENDINGS[format]}"
    provenance.save(path, PIXELS, recipe, format, generated=generated)
    return path


def words_in(path: Path) -> str:
    """The infotext, as another tool would look for it."""
    with Image.open(path) as picture:
        if path.suffix == ".png":
            return picture.info["parameters"]
        comment = picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert comment.startswith(b"UNICODE\0")
        return comment[8:].decode("utf-16-be")


def xmp_in(path: Path) -> bytes:
    """The XMP packet from the bytes of the file itself, without Pillow's help."""
    data = path.read_bytes()
    if path.suffix == ".png":
        at = 8
        while at < len(data):
            (length,) = struct.unpack(">I", data[at : at + 4])
            body = data[at + 8 : at + 8 + length]
            if data[at + 4 : at + 8] == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
                assert zlib.crc32(data[at + 4 : at + 8 + length]) == int.from_bytes(data[at + 8 + length :][:4], "big")
                assert body[18:22] == b"\0\0\0\0"  # not compressed, no language: what the XMP specification asks for
                return body[22:]
            at += 12 + length
    elif path.suffix == ".jpg":
        at = 2
        while data[at] == 0xFF and data[at + 1] != 0xDA:
            (length,) = struct.unpack(">H", data[at + 2 : at + 4])
            body = data[at + 4 : at + 2 + length]
            if data[at + 1] == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                return body[29:]
            at += 2 + length
    else:
        at = 12
        while at < len(data):
            (length,) = struct.unpack("<I", data[at + 4 : at + 8])
            if data[at : at + 4] == b"XMP ":
                return data[at + 8 : at + 8 + length]
            at += 8 + length + length % 2
    pytest.fail("There is no XMP in the file.")


@formats
def test_the_recipe_comes_back(tmp_path: Path, format: str) -> None:
    assert provenance.read_recipe(saved(tmp_path, format, RECIPE)) == RECIPE


@formats
def test_other_tools_find_the_parameters(tmp_path: Path, format: str) -> None:
    assert words_in(saved(tmp_path, format, RECIPE)) == (
        "a <portrait> & 笑\nNegative prompt: blur\n"
        f"Seed: 77, Size: 64x48, Model: template, Style: astronaut, Version: facechain {__version__}"
    )


@formats
@pytest.mark.parametrize(
    ("generated", "kind"), [(True, "trainedAlgorithmicMedia"), (False, "compositeWithTrainedAlgorithmicMedia")]
)
def test_the_mark_is_in_the_file(tmp_path: Path, format: str, generated: bool, kind: str) -> None:
    path = saved(tmp_path, format, RECIPE, generated)
    assert f">http://cv.iptc.org/newscodes/digitalsourcetype/{kind}<".encode() in xmp_in(path)
    assert provenance.is_marked(path)
    with Image.open(path) as picture:
        assert picture.format == format.upper()
        assert picture.size == (64, 48)


def test_png_keeps_the_pixels(tmp_path: Path) -> None:
    with Image.open(saved(tmp_path, "png", RECIPE)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), PIXELS)


@formats
def test_nothing_of_the_person_is_in_the_file(tmp_path: Path, format: str) -> None:
    secret = {
        **RECIPE,
        "people": ["Ottoline"],
        "consent": {"given_by": "Ottoline"},
        "parts": [{"Person": "Ottoline", "embedding": [0.123456], "strength": 1}],
    }
    path = saved(tmp_path, format, secret)
    assert provenance.read_recipe(path) == {**RECIPE, "parts": [{"strength": 1}]}
    data = path.read_bytes()
    for trace in ("Ottoline", "0.123456", "consent"):
        assert trace.encode() not in data
        assert trace.encode("utf-16-be") not in data


odd = st.text(st.characters(), max_size=60)  # halves of characters, NUL, and what else Unicode has
numbers = st.integers() | st.floats(allow_nan=False)
public = odd.filter(lambda key: key.lower() not in provenance.PRIVATE)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(public, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    format=st.sampled_from(sorted(ENDINGS)),
    prompt=odd,
    negative=odd,
    style=odd,
    more=st.dictionaries(public, st.none() | numbers | odd),
)
def test_any_recipe_comes_back(
    tmp_path_factory: pytest.TempPathFactory, format: str, prompt: str, negative: str, style: str, more: dict[str, Any]
) -> None:
    recipe = {**more, "shot": {"prompt": prompt, "negative": negative}, "style": style}
    path = saved(tmp_path_factory.mktemp("odd"), format, recipe)
    assert provenance.read_recipe(path) == recipe
    assert provenance.is_marked(path)
    assert f"Version: facechain {__version__}" in words_in(path)


@settings(max_examples=60, deadline=None)
@given(value=json_values)
def test_what_is_not_private_is_kept(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = saved(tmp_path_factory.mktemp("odd"), "png", {"options": {"value": value}})
    assert provenance.read_recipe(path) == {"options": {"value": value}}


@formats
def test_a_very_long_prompt(tmp_path: Path, format: str) -> None:
    recipe = {"prompt": "long " * 20_000}
    if format == "jpeg":
        with pytest.raises(StoreError, match="PNG"):
            saved(tmp_path, format, recipe)
        assert not list(tmp_path.iterdir())
    else:
        assert provenance.read_recipe(saved(tmp_path, format, recipe)) == recipe


def test_settings_with_commas_are_quoted() -> None:
    assert 'Style: "a, b: c"' in provenance.infotext({"style": "a, b: c"})


def test_saving_to_a_file_object() -> None:
    file = io.BytesIO()
    provenance.save(file, PIXELS, RECIPE, "webp", generated=True)
    assert file.getvalue()[8:12] == b"WEBP"


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="png, jpeg or webp"):
        provenance.save(tmp_path / "x.bmp", PIXELS, RECIPE, "bmp", generated=True)


@pytest.mark.parametrize("value", ["[1]", "{", "[" * 100_000, "null"])
def test_somebody_elses_text_is_no_recipe(tmp_path: Path, value: str) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("facechain", value)
    Image.fromarray(PIXELS).save(tmp_path / "x.png", pnginfo=texts)
    assert provenance.read_recipe(tmp_path / "x.png") is None
    assert not provenance.is_marked(tmp_path / "x.png")


PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" {attribute}>{element}'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
KIND = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize(
    ("packet", "marked"),
    [
        (PACKET.format(attribute=f'Iptc4xmpExt:DigitalSourceType="{provenance.GENERATED}"', element=""), True),
        (
            PACKET.format(
                attribute="", element=f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{provenance.COMPOSITE}"/>'
            ),
            True,
        ),
        (PACKET.format(attribute=f'Iptc4xmpExt:DigitalSourceType="{KIND}digitalCapture"', element=""), False),
        (f"<!DOCTYPE x [<!ENTITY a '{provenance.GENERATED}'>]>" + PACKET.format(attribute="", element="&a;"), False),
        ("<not xml", False),
        ("", False),
    ],
)
def test_marks_by_others(tmp_path: Path, packet: str, marked: bool) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.jpg", xmp=packet.encode())
    assert provenance.is_marked(tmp_path / "x.jpg") == marked


def test_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text(json.dumps(RECIPE))
    with pytest.raises(PhotoError, match="cannot be read"):
        provenance.read_recipe(tmp_path / "x.png")
