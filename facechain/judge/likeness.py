"""One picture, one person: how alike, against photos the engine never saw where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.errors import EngineError, PersonError
from facechain.judge.calibration import Calibration, likeness
from facechain.protocols import FaceReader
from facechain.types import Call, Crop, Face, Person, Pixels, Verdict

# This much liker to the given photos than to unseen ones looks like a pasted copy. Between real photos of one person
# the two differ by at most 0.055 (2,400 random splits of the photos of six people).
COPY = 0.06
SHARED = 0.15  # a face that shares less of its box with the place it was meant for is another one


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A person through the judge's eyes, read once."""

    person: str
    recogniser: str
    held_out: NDArray[np.float32]  # (N, D), N may be 0
    given: NDArray[np.float32]  # (M, D)


def refer(person: Person, reader: FaceReader) -> Reference:
    """Raises PersonError when the judge finds no face on any of the photos."""
    held_out, given = (_rows(crops, reader) for crops in (person.held_out, person.crops))
    if not len(held_out) and not len(given):
        raise PersonError(f"The judge finds no face on the photos of {person.name}.", "Add sharper photos.")
    return Reference(person=person.name, recogniser=reader.recogniser, held_out=held_out, given=given)


def _rows(crops: Sequence[Crop], reader: FaceReader) -> NDArray[np.float32]:
    rows = []
    for crop in crops:
        faces = reader.detect(crop.pixels)
        if faces:
            meant = min(faces, key=lambda face: float(np.abs(face.box_px - crop.face.box_px).sum()))
            rows.append(reader.embed(crop.pixels, [meant])[0].vector)
    return np.stack(rows) if rows else np.zeros((0, 1), np.float32)


def judge(
    pixels: Pixels,
    reference: Reference,
    reader: FaceReader,
    calibration: Calibration,
    *,
    coach: str = "",
    place: NDArray[np.float32] | None = None,
    before: Pixels | None = None,
) -> Verdict:
    """A verdict on one picture, not yet kept or dropped.

    `coach` is the recogniser the engine conditioned on; `place` where the face meant should be (left, top, right,
    bottom in px), or None for the one most like the person; `before` the picture before finishing.
    Raises EngineError when coach and judge are one.
    """
    if coach == reader.recogniser:
        raise EngineError(
            f"{coach} helped to make this picture, so it cannot judge it.", "Choose another judge in configs/app.toml."
        )
    faces = reader.detect(pixels)
    seen = reference.held_out if len(reference.held_out) else reference.given
    found = _meant(pixels, faces, reader, seen, place)
    if found is None:
        return _no_face(reference, reader, len(faces))
    face, row = found
    score = float(likeness(row[None], seen).mean())
    to_given = float(likeness(row[None], reference.given).mean()) if len(reference.given) else None
    unseen = len(reference.held_out) > 0
    copy = to_given - score if unseen and to_given is not None else None
    sharpness = _sharpness(pixels, face)
    return Verdict(
        person=reference.person,
        call=calibration.call(score, face.height_px, sharpness),
        likeness=score,
        likeness_given=to_given,
        likeness_before=_before(before, reader, seen, place),
        copy_score=copy,
        held_out=unseen,
        faces=len(faces),
        face_share=face.height_px / pixels.shape[0],
        sharpness=sharpness,
        judge=reader.recogniser,
        kept=False,
        why="",
    )


def _meant(
    pixels: Pixels,
    faces: Sequence[Face],
    reader: FaceReader,
    seen: NDArray[np.float32],
    place: NDArray[np.float32] | None,
) -> tuple[Face, NDArray[np.float32]] | None:
    if place is not None:
        there = [face for face in faces if _shared(face.box_px, place) > SHARED]
        faces = [max(there, key=lambda face: _shared(face.box_px, place))] if there else []
    if not faces:
        return None
    rows = np.stack([e.vector for e in reader.embed(pixels, faces)])
    best = int(likeness(rows, seen).mean(1).argmax())
    return faces[best], rows[best]


def _shared(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Of two boxes' area together, the part that lies in both (intersection over union)."""
    wide, high = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(max(wide, 0) * max(high, 0))
    each = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return both / max(sum(each) - both, 1e-6)


def _before(
    pixels: Pixels | None, reader: FaceReader, seen: NDArray[np.float32], place: NDArray[np.float32] | None
) -> float | None:
    if pixels is None:
        return None
    found = _meant(pixels, reader.detect(pixels), reader, seen, place)
    return None if found is None else float(likeness(found[1][None], seen).mean())


def swapped(
    pixels: Pixels,
    verdicts: Sequence[Verdict],
    references: Sequence[Reference],
    places: Sequence[NDArray[np.float32]],
    reader: FaceReader,
    calibration: Calibration,
) -> str:
    """Says, of a picture of several people, whose face stands where another's was meant; "" when nobody's does."""
    if len(references) < 2 or all(verdict.call is Call.SAME for verdict in verdicts):
        return ""
    for verdict, place in zip(verdicts, places, strict=True):
        for other in references:
            if verdict.call is Call.SAME or other.person == verdict.person:
                continue
            if judge(pixels, other, reader, calibration, place=place).call is Call.SAME:
                return f"the face meant for {verdict.person} is {other.person}'s"
    return ""


def _sharpness(pixels: Pixels, face: Face) -> float:
    """Variance of the Laplacian of the face, scaled to 112 px."""
    left, top, right, bottom = np.round(face.box_px).astype(int)
    crop = pixels[max(top, 0) : bottom, max(left, 0) : right]
    if not crop.size:
        return 0.0
    grey = cv2.cvtColor(cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _no_face(reference: Reference, reader: FaceReader, faces: int) -> Verdict:
    return Verdict(
        person=reference.person,
        call=Call.OTHER,
        likeness=None,
        likeness_given=None,
        likeness_before=None,
        copy_score=None,
        held_out=len(reference.held_out) > 0,
        faces=faces,
        face_share=0.0,
        sharpness=0.0,
        judge=reader.recogniser,
        kept=False,
        why="",
    )
