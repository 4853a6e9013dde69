"""A folder of photos into crops and rejections: every photo ends as exactly one of the two.

Two rounds. The first reads each photo once and finishes those with one person in them. Then it is known whom the
photos show, so the second can pick that face out of group pictures, and refuse strangers and repeated pictures.
One photo at a time is in memory (and the next few being decoded); finished crops wait in a temporary file.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.errors import PhotoError, StoreError
from facechain.photos import caption, crop, quality, same
from facechain.photos.ahead import in_order
from facechain.photos.crop import PORTRAIT, Framing
from facechain.photos.quality import ADVICE, LIMITS, Limits
from facechain.photos.read import file_id, read
from facechain.photos.tags import AgeReader, Sight, tags
from facechain.photos.upright import Found, find_faces
from facechain.protocols import FaceReader, Landmarker, Parser, Tick, silent
from facechain.types import Crop, Face, Mask, Note, Parts, Photo, Pixels, Points, Reason, Rejection, Tag

_DOMINANT = 4.0  # FaceChain's rule: a face this many times larger than the next is the one meant
_PARSE_PX = 256  # masks are soft anyway, and four times the pixels take four times as long
_READ_AHEAD = 3


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What an intake is handed; without a parser or an age reader their checks and tags are left out."""

    reader: FaceReader
    landmarker: Landmarker
    parser: Parser | None = None
    ages: AgeReader | None = None


class Intake(NamedTuple):
    crops: tuple[Crop, ...]
    rejections: tuple[Rejection, ...]


def intake(
    sources: Sequence[Path | str | Photo],
    tools: Tools,
    limits: Limits = LIMITS,
    framing: Framing = PORTRAIT,
    tick: Tick = silent,
) -> Intake:
    """Crops and rejections, both in the order of `sources` (files, or photos already read).

    `tick("photos", done, total)` is called once a photo and may raise to stop. Raises StoreError when the temporary
    folder is full.
    """
    total = len(sources)
    outcomes: list[_Candidate | _Crowd | Rejection] = []
    with _Shelf() as shelf:
        seen: set[str] = set()
        for index, photo in enumerate(in_order(_open, sources, threads=2, ahead=_READ_AHEAD)):
            tick("photos", index, total)
            if isinstance(photo, Rejection):
                outcomes.append(photo)
            elif photo.id in seen:
                outcomes.append(_rejected(photo, Reason.DUPLICATE))
            else:
                seen.add(photo.id)
                outcomes.append(_first_round(photo, sources[index], tools, limits, framing, shelf))
        outcomes = _only_the_person(outcomes, tools, limits, framing, shelf)
        outcomes = _without_repeats(outcomes, same.cosines(tools.reader.recogniser).picture)
        tick("photos", total, total)
        pictures = shelf.open()
        crops = tuple(item.crop(pictures) for item in outcomes if isinstance(item, _Candidate))
    return Intake(crops, tuple(item for item in outcomes if isinstance(item, Rejection)))


# ── first round ──────────────────────────────────────────────────────────────────────────────────


def _open(source: Path | str | Photo) -> Photo | Rejection:
    if isinstance(source, Photo):
        return source
    try:
        return read(source)
    except PhotoError as error:
        name = Path(source).name
        return Rejection(photo_id=file_id(source), photo_name=name, reason=Reason.UNREADABLE, advice=str(error))


def _rejected(photo: Photo | _Candidate | _Crowd, reason: Reason) -> Rejection:
    name = photo.name if isinstance(photo, Photo) else photo.photo_name
    photo_id = photo.id if isinstance(photo, Photo) else photo.photo_id
    return Rejection(photo_id=photo_id, photo_name=name, reason=reason, advice=ADVICE[reason], notes=photo.notes)


def _find(photo: Photo, source: Path | str | Photo, reader: FaceReader) -> Found:
    return find_faces(photo, reader, None if isinstance(source, Photo) else source)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Crowd:
    """A photo of several people, put off until it is known who is meant."""

    photo_id: str
    photo_name: str
    source: Path | str | Photo
    faces: tuple[Face, ...]  # with embeddings
    notes: tuple[Note, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Candidate:
    """A usable photo whose pictures wait on the shelf."""

    photo_id: str
    photo_name: str
    face: Face
    quality: float
    tags: tuple[Tag, ...]
    stamp: NDArray[np.bool_]
    photo_px: Points
    notes: tuple[Note, ...]
    pixels_at: _Place
    mask_at: _Place

    def crop(self, pictures: mmap.mmap | bytes) -> Crop:
        return Crop(
            photo_id=self.photo_id,
            photo_name=self.photo_name,
            pixels=self.pixels_at.array(pictures),
            face=self.face,
            head_mask=self.mask_at.array(pictures),
            quality=self.quality,
            photo_px=self.photo_px,
            tags=self.tags,
            caption=caption.describe(caption.traits(self.tags)),
            notes=self.notes,
        )


def _first_round(
    photo: Photo, source: Path | str | Photo, tools: Tools, limits: Limits, framing: Framing, shelf: _Shelf
) -> _Candidate | _Crowd | Rejection:
    photo, found, _ = _find(photo, source, tools.reader)
    faces = sorted(found, key=lambda face: -face.width_px * face.height_px)
    if not faces:
        return _rejected(photo, Reason.NO_FACE)
    areas = [face.width_px * face.height_px for face in faces]
    if len(faces) > 1 and areas[0] < _DOMINANT * areas[1]:
        worth = [face for face, area in zip(faces, areas, strict=True) if area * 16 >= areas[0]]
        embeddings = tools.reader.embed(photo.pixels, worth)
        known = tuple(replace(face, embedding=e) for face, e in zip(worth, embeddings, strict=True))
        return _Crowd(photo_id=photo.id, photo_name=photo.name, source=source, faces=known, notes=photo.notes)
    return _finish(photo, faces[0], tools, limits, framing, shelf)


def _finish(
    photo: Photo, face: Face, tools: Tools, limits: Limits, framing: Framing, shelf: _Shelf
) -> _Candidate | Rejection:
    """Measure, cut, tag and embed one face."""
    if max(face.width_px, face.height_px) < limits.min_face_px:
        return _rejected(photo, Reason.TOO_SMALL)
    mesh = tools.landmarker.mesh(photo.pixels, face)
    if mesh is None:
        return _rejected(photo, Reason.COVERED)
    face = replace(face, pose=mesh.pose)
    look = quality.measure(photo.pixels, face, mesh)
    if reason := quality.fault(look, limits):
        return _rejected(photo, reason)

    placing = crop.place(face, framing)
    pixels, shown = crop.cut(photo.pixels, placing, framing.fill), crop.inside(photo.pixels.shape, placing)
    mesh_px, face_px = placing.apply(mesh.points_px[:, :2]), crop.face_in_crop(face, placing)
    parts = _parts(pixels, tools.parser)
    if parts is not None:
        look = replace(look, clear=quality.clear_share(parts, mesh_px))
        if reason := quality.fault(look, limits):
            return _rejected(photo, reason)

    embedding = face.embedding or tools.reader.embed(photo.pixels, [face])[0]
    ages = tools.ages.ages(photo.pixels, face) if tools.ages else None
    sight = Sight(
        pixels=pixels,
        mesh_px=mesh_px,
        expressions=mesh.expressions,
        pose=face_px.pose,
        shown=shown,
        parts=parts,
        ages=ages,
    )
    return _Candidate(
        photo_id=photo.id,
        photo_name=photo.name,
        face=replace(face_px, embedding=embedding),
        quality=quality.score(look, limits),
        tags=tags(sight),
        stamp=same.stamp(photo.pixels, face),
        photo_px=placing.apply(crop.corners(photo.pixels.shape)),
        notes=photo.notes,
        pixels_at=shelf.put(pixels),
        mask_at=shelf.put(_head(parts, face_px, mesh_px, shown)),
    )


def _parts(pixels: Pixels, parser: Parser | None) -> Parts | None:
    if parser is None:
        return None
    side = pixels.shape[0]
    small = cv2.resize(pixels, (_PARSE_PX, _PARSE_PX), interpolation=cv2.INTER_AREA) if side > _PARSE_PX else pixels
    parts = parser.parts(small)  # type: ignore[arg-type]
    return Parts(
        masks={part: cv2.resize(m, (side, side), interpolation=cv2.INTER_LINEAR) for part, m in parts.masks.items()}  # type: ignore[misc]
    )


def _head(parts: Parts | None, face: Face, mesh_px: NDArray[np.float32], shown: Mask) -> Mask:
    """Hair and face; without a parser the face's oval alone."""
    if parts is not None:
        return crop.head_mask(parts, face) * shown
    hull = cv2.convexHull(np.round(mesh_px).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shown.shape, np.float32), hull, (1.0,)) * shown  # type: ignore[return-value]


# ── who is meant ─────────────────────────────────────────────────────────────────────────────────


def _only_the_person(
    outcomes: list[_Candidate | _Crowd | Rejection], tools: Tools, limits: Limits, framing: Framing, shelf: _Shelf
) -> list[_Candidate | _Crowd | Rejection]:
    """Crowds resolved to the person most photos show; strangers refused."""
    usable = [item.face for item in outcomes if isinstance(item, _Candidate)]
    crowds = [item for item in outcomes if isinstance(item, _Crowd)]
    # With nobody alone in a picture, whoever is in most of the group pictures is meant.
    faces = usable or [face for crowd in crowds for face in crowd.faces]
    if not faces:
        return outcomes
    limit = same.cosines(tools.reader.recogniser)
    rows = _rows(faces)
    centre = same.medoid(rows, limit.same)
    known = bool(usable) or int((rows @ centre >= limit.same).sum()) > 1
    return [
        _resolve(item, centre, known, limit, tools, limits, framing, shelf) if not isinstance(item, Rejection) else item
        for item in outcomes
    ]


def _resolve(
    item: _Candidate | _Crowd,
    centre: NDArray[np.float32],
    known: bool,
    limit: same.Cosines,
    tools: Tools,
    limits: Limits,
    framing: Framing,
    shelf: _Shelf,
) -> _Candidate | Rejection:
    if isinstance(item, _Candidate):
        near = float(_rows([item.face])[0] @ centre)
        return item if near >= limit.same else _rejected(item, Reason.SOMEONE_ELSE)
    likeness = _rows(list(item.faces)) @ centre
    order = np.argsort(-likeness)
    # Clear means: this one is the person, and the next best is not.
    if not known or likeness[order[0]] < limit.same or likeness[order[1]] >= limit.same:
        return _rejected(item, Reason.SEVERAL_PEOPLE)
    photo = _open(item.source)
    if isinstance(photo, Rejection):  # the file has gone since
        return photo
    photo = _find(photo, item.source, tools.reader).photo
    return _finish(photo, item.faces[order[0]], tools, limits, framing, shelf)


def _rows(faces: Iterable[Face]) -> NDArray[np.float32]:
    return same.units([face.embedding for face in faces if face.embedding is not None])


def _without_repeats(
    outcomes: list[_Candidate | _Crowd | Rejection], alike_from: float
) -> list[_Candidate | _Crowd | Rejection]:
    """Of pictures that are one picture, the best stays (the first of equals)."""
    candidates = [(at, item) for at, item in enumerate(outcomes) if isinstance(item, _Candidate)]
    if len(candidates) < 2:
        return outcomes
    rows, stamps = _rows(item.face for _, item in candidates), np.array([item.stamp for _, item in candidates])
    kept: list[int] = []
    result = list(outcomes)
    for number in sorted(range(len(candidates)), key=lambda n: (-candidates[n][1].quality, n)):
        at, item = candidates[number]
        others = np.array(kept, int)
        alike = rows[others] @ rows[number] >= alike_from
        if ((stamps[others[alike]] != stamps[number]).mean(axis=1) < same.SAME_PICTURE_BITS).any():
            result[at] = _rejected(item, Reason.DUPLICATE)
        else:
            kept.append(number)
    return result


# ── the shelf ────────────────────────────────────────────────────────────────────────────────────


class _Place(NamedTuple):
    start: int
    shape: tuple[int, ...]
    kind: str  # numpy dtype

    def array(self, pictures: mmap.mmap | bytes) -> np.ndarray:
        count = int(np.prod(self.shape))
        return np.frombuffer(pictures, self.kind, count, self.start).reshape(self.shape)


class _Shelf:
    """Arrays in one temporary file that vanishes with the last of them: memory stays flat over thousands of crops."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="facechain-")  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()  # what was opened lives on until its last array is gone

    def put(self, array: np.ndarray) -> _Place:
        data = np.ascontiguousarray(array)
        try:
            self._file.write(data.data)
        except OSError as error:
            raise StoreError(
                f"The temporary folder {tempfile.gettempdir()} cannot hold the crops ({error.strerror}).",
                "Free some space there or set TMPDIR to a larger disk.",
            ) from None
        place = _Place(self._end, data.shape, data.dtype.str)
        self._end += data.nbytes
        return place

    def open(self) -> mmap.mmap | bytes:
        """Everything put so far, read-only."""
        if not self._end:
            return b""
        self._file.flush()
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
