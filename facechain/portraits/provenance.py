"""How a picture was made, written into it; and the mark that says a machine had a hand in it.

The recipe is a `parameters` text as image tools of the Stable Diffusion family read it (AUTOMATIC1111's "infotext"),
and JSON. The mark is IPTC's Digital Source Type, in XMP, which photo services look for
(IPTC Photo Metadata Standard 2023.1; https://cv.iptc.org/newscodes/digitalsourcetype/).

            infotext                     recipe as JSON                 mark
    PNG     text "parameters"            text "facechain", XMP          XMP (iTXt)
    JPEG    EXIF UserComment             XMP                            XMP (APP1)
    WebP    EXIF UserComment             XMP                            XMP chunk
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from facechain import __version__
from facechain.errors import PhotoError, StoreError
from facechain.types import Pixels

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"  # wholly made by a model
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"  # a picture, altered

# A picture travels; who is in it and what their face measures stay at home.
PRIVATE = frozenset({"person", "people", "consent", "embedding", "embeddings", "vector"})

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OURS = "urn:facechain:recipe:1"
_UNICODE = b"UNICODE\0"  # EXIF's name for UTF-16 in a UserComment
_SEGMENT_BYTES = 65_000  # what a JPEG segment holds, less its heading


def save(to: Path | IO[bytes], pixels: Pixels, recipe: Mapping[str, Any], format: str, *, generated: bool) -> None:
    """Writes a PNG, JPEG or WebP (`format` "png", "jpeg", "webp") with its recipe and mark.

    `generated`: the whole picture came from a model; otherwise a real picture was altered. Names of people, consent
    and embeddings are left out of the recipe. Raises StoreError for another format, and when the recipe is longer
    than a JPEG can hold.
    """
    public = _public(recipe)
    words, as_json = infotext(public), json.dumps(public)
    xmp = _xmp(GENERATED if generated else COMPOSITE, as_json)
    picture = Image.fromarray(pixels)
    if format == "png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("parameters", words)
        texts.add_text("facechain", as_json)
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        picture.save(to, "PNG", pnginfo=texts)
        return
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + words.encode("utf-16-be")
    if format == "webp":
        picture.save(to, "WEBP", quality=95, method=4, exif=exif.tobytes(), xmp=xmp)
    elif format == "jpeg":
        if max(len(exif.tobytes()), len(xmp)) > _SEGMENT_BYTES:
            raise StoreError("The recipe is too long for a JPEG.", "Save it as PNG or WebP, or shorten the prompt.")
        picture.save(to, "JPEG", quality=95, subsampling=0, exif=exif.tobytes(), xmp=xmp)
    else:
        raise StoreError(f"Pictures cannot be saved as {format!r}.", "Choose png, jpeg or webp.")


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The recipe written by `save`, or None. Raises PhotoError when the file is not a picture."""
    info = _info(path)
    as_json = info.get("facechain")
    if as_json is None:
        as_json = next((text for name, text in _properties(info) if name == f"{{{_OURS}}}recipe"), None)
    try:
        recipe = json.loads(as_json or "null")
    except (ValueError, TypeError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def is_marked(path: Path) -> bool:
    """Whether the picture says that a model made it or a part of it. Raises PhotoError as `read_recipe` does."""
    return any(
        name == f"{{{_IPTC}}}DigitalSourceType" and text.strip() in (GENERATED, COMPOSITE)
        for name, text in _properties(_info(path))
    )


def infotext(recipe: Mapping[str, Any]) -> str:
    """The recipe as prompt, negative prompt, and one line of settings."""
    shot = recipe.get("shot")
    known: dict[str, Any] = {**recipe, **(shot if isinstance(shot, Mapping) else {})}
    options = known.get("options")
    known = {**(options if isinstance(options, Mapping) else {}), **known}
    width, height = known.get("width_px"), known.get("height_px")
    settings = {
        "Steps": known.get("steps"),
        "Sampler": known.get("sampler"),
        "CFG scale": known.get("guidance"),
        "Seed": known.get("seed"),
        "Size": f"{width}x{height}" if width and height else None,
        "Model": known.get("model") or known.get("engine"),
        "Style": known.get("style"),
        "Version": f"facechain {__version__}",
    }
    line = ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value not in (None, ""))
    negative = known.get("negative")
    lines = [str(known.get("prompt") or ""), f"Negative prompt: {negative}" if negative else "", line]
    return _printable("\n".join(filter(None, lines)))


def told(value: Any) -> Any:
    """A setting as a recipe holds it: pictures by their digest, files by their name and not by where they lie."""
    if isinstance(value, Mapping):
        return {"sha256": value["id"]} if "pixels" in value else {name: told(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(item) for item in value]
    if isinstance(value, str) and os.sep in value and Path(value).exists():
        return Path(value).name
    return value


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n\"]", text) else text


def _printable(text: str) -> str:
    """Without what neither XML nor PNG texts can carry: control characters and halves of characters."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _public(inner) for key, inner in value.items() if str(key).lower() not in PRIVATE}
    if isinstance(value, (list, tuple)):
        return [_public(inner) for inner in value]
    return value


def _xmp(source_type: str, as_json: str) -> bytes:
    # JSON is ASCII here, so escaping the three signs of XML is enough.
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about=""'
        f' xmlns:Iptc4xmpExt="{_IPTC}" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:facechain="{_OURS}">'
        f"<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>facechain {__version__}</xmp:CreatorTool>"
        f"<facechain:recipe>{escape(as_json)}</facechain:recipe>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def _info(path: Path) -> dict[Any, Any]:
    try:
        with Image.open(path) as picture:
            return dict(picture.info)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PhotoError(f"{path.name} cannot be read as a picture.", "Choose a PNG, JPEG or WebP file.") from error


def _properties(info: Mapping[Any, Any]) -> list[tuple[str, str]]:
    """({namespace}name, text) of every simple property in the XMP, whether written as element or as attribute."""
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    packet = packet.encode() if isinstance(packet, str) else packet
    if b"<!" in packet:  # declarations have no place in XMP, and entities can be bombs
        return []
    try:
        root = ElementTree.fromstring(packet.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError):
        return []
    found = []
    for element in root.iter():
        found.append((element.tag, element.text or element.get(f"{{{_RDF}}}resource", "")))
        found.extend(element.attrib.items())
    return found
