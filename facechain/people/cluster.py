"""A mixed album sorted into persons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facechain.errors import FaceChainError
from facechain.protocols import Tick, silent
from facechain.types import Face

# Mean cosine between two groups of faces from which they are one person.
LINK: Mapping[str, float] = {
    # Any value of 0.35…0.60 sorts 62 portraits of 8 people and the 29 faces of the Solvay photo without an error.
    "sface_2021dec": 0.45,
    "w600k_mbf": 0.35,  # between 0.237, the likest pair of different people of those, and 0.488, the unlikest of one
    "dlib_resnet_v1": 0.915,  # its usual distance of 0.6
}
_OTHERS = 0.45


class Where(NamedTuple):
    photo: int
    face: int


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Faces that fail are left out: a recogniser says alike of any two faces it can hardly see."""

    min_face_px: float = 36  # longer side
    min_score: float = 0.75
    max_yaw_deg: float = 60


@dataclass(frozen=True, kw_only=True)
class Album:
    persons: tuple[tuple[Where, ...], ...]  # most photos first
    left_out: tuple[Where, ...]


def recognisable(face: Face, gate: Gate) -> bool:
    return (
        max(face.width_px, face.height_px) >= gate.min_face_px
        and face.score >= gate.min_score
        and abs(face.pose.yaw_deg) <= gate.max_yaw_deg
    )


def cluster(
    photos: Sequence[Sequence[Face]], link: float | None = None, gate: Gate | None = None, tick: Tick = silent
) -> Album:
    """Every face of every photo to a person, or left out. Faces carry embeddings of one recogniser.

    Average linkage: two groups join when the mean cosine over all their pairs reaches `link`, best pair first, so
    one lucky likeness cannot chain strangers together. Groups that share a photo never join: nobody is in a picture
    twice. Memory grows with the number of faces, not its square.
    Raises FaceChainError when faces lack embeddings or come from different recognisers.
    """
    gate = gate or Gate()
    everywhere = [Where(p, f) for p, faces in enumerate(photos) for f in range(len(faces))]
    usable = [where for where in everywhere if recognisable(photos[where.photo][where.face], gate)]
    left_out = tuple(sorted(set(everywhere) - set(usable)))
    if not usable:
        return Album(persons=(), left_out=left_out)
    rows, recogniser = _rows([photos[where.photo][where.face] for where in usable])
    limit = LINK.get(recogniser, _OTHERS) if link is None else link
    groups = _Groups(rows, [where.photo for where in usable]).join(limit, tick)
    persons = [tuple(usable[index] for index in sorted(group)) for group in groups]
    return Album(persons=tuple(sorted(persons, key=lambda person: (-len(person), person))), left_out=left_out)


def _rows(faces: Sequence[Face]) -> tuple[NDArray[np.float32], str]:
    embeddings = [face.embedding for face in faces]
    known = [embedding for embedding in embeddings if embedding is not None]
    names = {embedding.recogniser for embedding in known}
    if len(known) < len(embeddings) or len(names) != 1:
        raise FaceChainError("These faces cannot be compared.", "Read all of them with one recogniser.")
    rows = np.stack([embedding.vector for embedding in known]).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), names.pop()


class _Groups:
    """Agglomeration over sums: the mean cosine of all pairs of two groups is the product of their mean vectors."""

    def __init__(self, rows: NDArray[np.float32], photos: Sequence[int]) -> None:
        count = len(rows)
        self._means = rows.copy()
        self._sizes = np.ones(count)
        self._alive = np.ones(count, bool)
        self._members = [[index] for index in range(count)]
        self._photos = [{photo} for photo in photos]
        self._in_photo: dict[int, set[int]] = defaultdict(set)
        for index, photo in enumerate(photos):
            self._in_photo[photo].add(index)
        self._best = np.full(count, -np.inf)
        self._partner = np.zeros(count, int)
        self._stale = np.ones(count, bool)

    def join(self, limit: float, tick: Tick) -> list[list[int]]:
        count = len(self._means)
        for index in range(count):
            self._look(index)
            if index % 256 == 0:
                tick("faces", index, count)
        while True:
            # A join can only lower the likeness to a group (average linkage is reducible), so an outdated best is
            # an upper bound and is looked at again only when it comes first.
            one = int(np.argmax(self._best))
            if self._best[one] < limit:
                return [self._members[index] for index in np.flatnonzero(self._alive)]
            if self._stale[one]:
                self._look(one)
            else:
                self._merge(one, int(self._partner[one]))

    def _likeness(self, index: int) -> NDArray[np.floating]:
        """To every other group, (N,); -inf where they may not join."""
        likeness = self._means @ self._means[index]
        likeness[~self._alive] = -np.inf
        for photo in self._photos[index]:
            likeness[list(self._in_photo[photo])] = -np.inf  # itself included
        return likeness

    def _look(self, index: int) -> None:
        likeness = self._likeness(index)
        self._partner[index] = np.argmax(likeness)
        self._best[index] = likeness[self._partner[index]]
        self._stale[index] = False

    def _merge(self, one: int, other: int) -> None:
        size = self._sizes[one] + self._sizes[other]
        self._means[one] += (self._means[other] - self._means[one]) * (self._sizes[other] / size)
        self._sizes[one] = size
        self._members[one] += self._members[other]
        for photo in self._photos[other]:
            self._in_photo[photo].remove(other)
            self._in_photo[photo].add(one)
        self._photos[one] |= self._photos[other]
        self._alive[other] = False
        self._best[other] = -np.inf
        self._stale |= (self._partner == one) | (self._partner == other)
        self._look(one)
