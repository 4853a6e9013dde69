"""Figures of a trained family: who is recognised in the pictures, and by chance how many would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facechain.lab.assets import Floats
from facechain.lab.people import someone
from facechain.lab.render import Model, Sitter, render
from facechain.lab.scenes import scene
from facechain.protocols import FaceReader
from facechain.types import Pixels

STRANGERS_FROM = 1_000_000  # nobody is trained on from this number on


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One rendered picture and its truth."""

    pixels: Pixels
    points: Floats  # (5, 2) in picture widths
    traits: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How often the right person comes first among `gallery` people. A picture without a face counts as a miss."""

    pictures: int
    gallery: int
    faces: int  # pictures with exactly one face
    first: int  # with the right person first
    likeness: float  # mean cosine to the right person, of the pictures with a face
    likeness_others: float  # mean cosine to everybody else

    @property
    def rate(self) -> float:
        return self.first / self.pictures


def stranger(model: Model, number: int, views: int, size_px: int, start: int = 0) -> list[Shown]:
    """Pictures of the `number`-th person nobody trained on, from view `start` on; view 0 is frontal."""
    person = STRANGERS_FROM + number
    who = someone(person, model.assets)
    sitter = Sitter(who, model)
    made = []
    for view in range(start, start + views):
        rendered = render(sitter, scene(person * 100 + view, who, model.assets, frontal=view == 0), size_px)
        made.append(
            Shown(
                pixels=rendered.pixels,
                points=np.asarray(rendered.points_px / size_px, np.float32),
                traits=rendered.traits,
            )
        )
    return made


def mean_vector(vectors: Sequence[Floats | None]) -> Floats | None:
    """Unit vector of several pictures of one person; None when no face was found in any."""
    found = [vector for vector in vectors if vector is not None]
    if not found:
        return None
    mean = np.mean(found, axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def face_vector(pixels: Pixels, reader: FaceReader) -> Floats | None:
    """Unit vector of the one face; None when there is none, or several."""
    faces = reader.read(pixels)
    if len(faces) != 1 or faces[0].embedding is None:
        return None
    vector = faces[0].embedding.vector
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def rank(
    painted: Sequence[tuple[int, Pixels]], gallery: Sequence[Floats | None], vector: Callable[[Pixels], Floats | None]
) -> Ranking:
    """`painted` are (number of the right person in the gallery, picture). Gallery faces not seen match nobody."""
    width = next(len(g) for g in gallery if g is not None)
    known = np.stack([np.full(width, np.nan, np.float32) if g is None else g for g in gallery])
    first, right, others, faces = 0, [], [], 0
    for person, pixels in painted:
        seen = vector(pixels)
        if seen is None:
            continue
        faces += 1
        likeness = np.nan_to_num(known @ seen, nan=-1.0)
        first += int(np.argmax(likeness) == person)
        right.append(likeness[person])
        others.append(np.delete(likeness, person).mean())
    return Ranking(
        pictures=len(painted),
        gallery=len(gallery),
        faces=faces,
        first=first,
        likeness=float(np.mean(right)) if right else float("nan"),
        likeness_others=float(np.mean(others)) if others else float("nan"),
    )
