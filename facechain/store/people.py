"""A person as files: person.json, photos/ as they came, crops/ as engines and the judge use them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facechain import disk
from facechain.config import MOST_CROP_SIDE_PX
from facechain.errors import PersonError, StoreError
from facechain.types import Consent, Crop, Embedding, Face, Note, NoteKind, Person, Pixels, Pose, Tag

SHEET = "person.json"
MOST_CROP_PX = MOST_CROP_SIDE_PX**2
MOST_CROP_BYTES = 8 * MOST_CROP_PX  # PNG of noise (3 bytes a pixel), mask (4), and the small rest

# What the readers of JSON, zip, npy and PNG raise for damaged bytes.
_DAMAGE = (
    OSError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    SyntaxError,
)

# numpy parses headers of arrays with `ast`, which CPython 3.11 now and then fails at when several threads do so.
_reading = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class PersonSummary:
    name: str
    slug: str
    photos: int  # to learn from
    held_out: int  # for the judge
    portraits: int  # kept in the person's own folder
    consent: Consent


@dataclass(frozen=True, kw_only=True)
class KeptPhoto:
    """One photo of a person as it is shown and edited; no pixels."""

    id: str
    name: str
    held_out: bool  # for the judge alone
    quality: float  # 0…1
    caption: str
    tags: tuple[Tag, ...]
    notes: tuple[Note, ...] = ()


def write_person(folder: Path, person: Person, originals: Sequence[Path]) -> None:
    """Everything about a person into an empty folder; of the originals, only photos the person was made from."""
    crops = (*person.crops, *person.held_out)
    ids = {disk.plain(crop.photo_id) for crop in crops}
    if len(ids) < len(crops):
        raise PersonError("A photo was given twice.", "Give every photo once.")
    for name in ("photos", "crops", "portraits"):
        (folder / name).mkdir(mode=0o700)
    for original in originals:
        data = original.read_bytes()
        photo_id = hashlib.sha256(data).hexdigest()
        if photo_id in ids:
            disk.write(folder / "photos" / f"{photo_id}{_ending(original)}", data)
    for crop in crops:
        disk.write(folder / "crops" / f"{crop.photo_id}.npz", _crop_bytes(crop))
    sheet = {
        "name": person.name,
        "consent": {**asdict(person.consent), "when": person.consent.when.isoformat()},
        "crops": [crop.photo_id for crop in person.crops],
        "held_out": [crop.photo_id for crop in person.held_out],
        "template": {
            "recogniser": person.template.recogniser,
            "unit_norm": person.template.unit_norm,
            "vector": person.template.vector.tolist(),
        },
    }
    for name in ("photos", "crops"):
        disk.sync(folder / name)
    disk.write(folder / SHEET, json.dumps(sheet, indent=1).encode())


def read_person(folder: Path) -> Person:
    """Raises StoreError when the files are damaged."""
    with _whole(folder):
        sheet = read_sheet(folder)
        return Person(
            name=sheet["name"],
            crops=tuple(_read_crop(folder / "crops" / f"{photo_id}.npz") for photo_id in sheet["crops"]),
            held_out=tuple(_read_crop(folder / "crops" / f"{photo_id}.npz") for photo_id in sheet["held_out"]),
            template=Embedding(
                vector=np.array(sheet["template"]["vector"], np.float32),
                recogniser=sheet["template"]["recogniser"],
                unit_norm=sheet["template"]["unit_norm"],
            ),
            consent=_consent(sheet),
        )


def read_summary(folder: Path) -> PersonSummary:
    """Reads one small file and counts names. Raises StoreError when that file is damaged."""
    with _whole(folder):
        sheet = read_sheet(folder)
        return PersonSummary(
            name=read_name(folder),
            slug=folder.name,
            photos=len(sheet["crops"]),
            held_out=len(sheet["held_out"]),
            portraits=sum(1 for _ in (folder / "portraits").glob("*/*.json")),
            consent=_consent(sheet),
        )


def read_name(folder: Path) -> str:
    """Raises StoreError when the sheet is damaged."""
    with _whole(folder):
        name = read_sheet(folder)["name"]
        if not isinstance(name, str):
            raise TypeError("a name is text")
        return name


def read_photos(folder: Path) -> tuple[KeptPhoto, ...]:
    """Every photo of a person, those to learn from first. Raises StoreError when the files are damaged."""
    with _whole(folder):
        sheet = read_sheet(folder)
        return tuple(
            _read_photo(folder / "crops" / f"{photo_id}.npz", held_out=kind == "held_out")
            for kind in ("crops", "held_out")
            for photo_id in sheet[kind]
        )


def photo_ids(folder: Path) -> Iterator[str]:
    """As the files are named, so also of a damaged person."""
    for path in (*folder.glob("photos/*"), *folder.glob("crops/*.npz")):
        yield path.stem


def photo_names(folder: Path) -> Iterator[str]:
    """Of the files that the person was made from, as far as they can be read."""
    for path in folder.glob("crops/*.npz"):
        with contextlib.suppress(*_DAMAGE):
            yield _read_photo(path, held_out=False).name


def read_crop_png(folder: Path, photo_id: str) -> bytes:
    """The picture engines learn from, as PNG. Raises PersonError when there is no such photo."""
    with _whole(folder):
        return _arrays(_crop(folder, photo_id), "png")["png"].tobytes()


def described(folder: Path, photo_id: str, caption: str, tags: tuple[Tag, ...]) -> bytes:
    """The crop's file with another caption and other tags. Raises PersonError when there is no such photo."""
    with _whole(folder):
        arrays = _arrays(_crop(folder, photo_id))
        about = json.loads(arrays["about"].tobytes())
        about |= {"caption": caption, "tags": [asdict(tag) for tag in tags]}
    return _npz({**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)})


def _crop(folder: Path, photo_id: str) -> Path:
    path = folder / "crops" / f"{disk.plain(photo_id)}.npz"
    if not path.is_file():
        raise PersonError(
            f"There is no photo {photo_id[:12]}… of {folder.name!r}.", "Look again at the person's photos."
        )
    return path


def _arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """These arrays of a crop's file, or all. Raises OSError or ValueError when it is damaged or unpacks to too much."""
    try:
        with zipfile.ZipFile(path) as members:  # which never reads more of a member than its size says
            unpacked_bytes = sum(member.file_size for member in members.infolist())
        if unpacked_bytes > MOST_CROP_BYTES:
            raise ValueError(f"{path.name} unpacks to {unpacked_bytes:,} bytes, expected at most {MOST_CROP_BYTES:,}")
        with _reading, np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names or stored.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def _read_photo(path: Path, held_out: bool) -> KeptPhoto:
    about = json.loads(_arrays(path, "about")["about"].tobytes())
    return KeptPhoto(
        id=about["photo_id"],
        name=about["photo_name"],
        held_out=held_out,
        quality=about["quality"],
        caption=about["caption"],
        tags=tuple(Tag(**tag) for tag in about["tags"]),
        notes=_read_notes(about),
    )


def read_sheet(folder: Path) -> dict[str, Any]:
    """Raises StoreError when it is damaged."""
    with _whole(folder):
        return json.loads((folder / SHEET).read_bytes())


def _consent(sheet: dict[str, Any]) -> Consent:
    return Consent(**{**sheet["consent"], "when": datetime.fromisoformat(sheet["consent"]["when"])})


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Raises StoreError for what damaged files make their readers raise."""
    try:
        yield
    except _DAMAGE as error:
        raise StoreError(
            f"The files in {folder} are damaged.",
            f"Restore them from a backup, or remove them with `facechain people forget {folder.name}`, then add.",
        ) from error


def _ending(original: Path) -> str:
    ending = original.suffix.lower()
    return ending if re.fullmatch(r"\.[a-z0-9]{1,8}", ending) else ""


def _crop_bytes(crop: Crop) -> bytes:
    """An npz of plain arrays; pixels are a PNG in it, and what is not an array is JSON."""
    face = crop.face
    about = {
        "photo_id": crop.photo_id,
        "photo_name": crop.photo_name,
        "quality": float(crop.quality),
        "tags": [{**asdict(tag), "confidence": float(tag.confidence)} for tag in crop.tags],
        "caption": crop.caption,
        "notes": [asdict(note) for note in crop.notes],
        "score": float(face.score),
        "pose": {name: float(value) for name, value in asdict(face.pose).items()},
        "recogniser": face.embedding.recogniser if face.embedding else None,
        "unit_norm": face.embedding.unit_norm if face.embedding else None,
    }
    arrays = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "png": np.frombuffer(_png(crop.pixels), np.uint8),
        "head_mask": crop.head_mask,
        "box_px": face.box_px,
        "points_px": face.points_px,
    }
    if crop.photo_px is not None:
        arrays["photo_px"] = crop.photo_px
    if face.embedding:
        arrays["embedding"] = face.embedding.vector
    return _npz(arrays)


def _npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _read_crop(path: Path) -> Crop:
    arrays = _arrays(path)
    about = json.loads(arrays["about"].tobytes())
    embedding = None
    if "embedding" in arrays:
        embedding = Embedding(vector=arrays["embedding"], recogniser=about["recogniser"], unit_norm=about["unit_norm"])
    with Image.open(io.BytesIO(arrays["png"].tobytes()), formats=("PNG",)) as picture:
        if picture.width * picture.height > MOST_CROP_PX:
            raise ValueError(f"{path.name} holds a picture of {picture.width} × {picture.height} px")
        pixels = np.array(picture.convert("RGB"))
    return Crop(
        photo_id=about["photo_id"],
        photo_name=about["photo_name"],
        pixels=pixels,
        face=Face(
            box_px=arrays["box_px"],
            points_px=arrays["points_px"],
            score=about["score"],
            pose=Pose(**about["pose"]),
            embedding=embedding,
        ),
        head_mask=arrays["head_mask"],
        quality=about["quality"],
        photo_px=arrays.get("photo_px"),
        tags=tuple(Tag(**tag) for tag in about["tags"]),
        caption=about["caption"],
        notes=_read_notes(about),
    )


def _read_notes(about: dict[str, Any]) -> tuple[Note, ...]:
    """Photos stored before there were notes have none."""
    return tuple(Note(**{**note, "kind": NoteKind(note["kind"])}) for note in about.get("notes", ()))


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    return file.getvalue()
