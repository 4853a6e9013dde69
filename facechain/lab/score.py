"""Figures of a trained family: who is recognised in the pictures, and by chance how many would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facechain.lab.assets import Floats
from facechain.lab.people import someone
from facechain.lab.render import Model, Sitter, render
from facechain.lab.scenes import scene
from facechain.protocols import FaceReader
from facechain.types import Pixels

STRANGERS_FROM = 1_000_000  # nobody is trained on from this number on


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


def strangers(model: Model, count: int, views: int, size_px: int) -> list[list[Pixels]]:
    """Pictures of people nobody trained on; the first view of each is frontal."""
    album = []
    for person in range(STRANGERS_FROM, STRANGERS_FROM + count):
        who = someone(person, model.assets)
        sitter = Sitter(who, model)
        scenes = [scene(person * 100 + view, who, model.assets, frontal=view == 0) for view in range(views)]
        album.append([render(sitter, s, size_px).pixels for s in scenes])
    return album


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
