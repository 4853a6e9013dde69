"""Who is in each of many photos: faces and embeddings only, as fast as the machine allows.

Each core takes a photo of its own from file to embedding, so that no core waits for another. JPEGs are decoded
reduced, and whole only where faces are too small for that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from facechain.errors import PhotoError
from facechain.photos.ahead import in_order
from facechain.photos.read import file_id, read, read_reduced
from facechain.photos.upright import find_faces, turned
from facechain.protocols import FaceReader, Tick, silent
from facechain.types import Face, Note, Pixels, Reason, Rejection

_LOOK_PX = 800  # longer side at least: detectors look at 640
_HIDDEN = 0.05  # where a face is narrower than this share of the longer side, smaller ones may hide
_EMBED_PX = 80  # a face this wide fills a recogniser's 112 px chip without being enlarged


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    photo_id: str
    photo_name: str
    faces: tuple[Face, ...]  # in pixels of the upright photo at full size, with embeddings, left to right
    notes: tuple[Note, ...] = ()


def look(sources: Sequence[Path | str], reader: FaceReader, tick: Tick = silent) -> Iterator[Seen | Rejection]:
    """Faces of every photo, in order, or why it cannot be read; a few photos are in memory at a time.

    `tick("photos", done, total)` is called once a photo and may raise to stop.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for done, seen in enumerate(in_order(partial(_look, reader=reader), sources, threads=cores, ahead=2 * cores)):
        tick("photos", done, len(sources))
        yield seen
    tick("photos", len(sources), len(sources))


def _look(source: Path | str, reader: FaceReader) -> Seen | Rejection:
    try:
        photo, reduction = read_reduced(source, _LOOK_PX)
        photo, faces, quarters = find_faces(photo, reader, source)
        narrowest = min((face.width_px for face in faces), default=0.0)
        if reduction > 1 and narrowest < max(_EMBED_PX, _HIDDEN * max(photo.pixels.shape)):
            whole = turned(read(source).pixels, quarters)
            if narrowest < _HIDDEN * max(photo.pixels.shape):
                faces = reader.detect(whole)
            else:
                faces = tuple(_enlarged(face, reduction) for face in faces)
            known = _embedded(whole, faces, reader)
        else:
            known = tuple(_enlarged(face, reduction) for face in _embedded(photo.pixels, faces, reader))
        return Seen(photo_id=photo.id, photo_name=photo.name, faces=known, notes=photo.notes)
    except PhotoError as error:
        name = Path(source).name
        return Rejection(photo_id=file_id(source), photo_name=name, reason=Reason.UNREADABLE, advice=str(error))


def _embedded(pixels: Pixels, faces: Sequence[Face], reader: FaceReader) -> tuple[Face, ...]:
    embeddings = reader.embed(pixels, faces)
    return tuple(replace(face, embedding=e) for face, e in zip(faces, embeddings, strict=True))


def _enlarged(face: Face, factor: float) -> Face:
    return replace(face, box_px=face.box_px * factor, points_px=face.points_px * factor)
