"""What tools promise to stages. Anything with these methods will do; nothing needs to inherit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facechain.params import EngineParams
from facechain.types import Canvas, Embedding, Face, Mask, Mesh, Parts, Person, Pixels, Shot, Style


class Tick(Protocol):
    """Called as work goes on; raises `Cancelled` when somebody asked to stop."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """A tick for callers who do not watch."""


class FaceReader(Protocol):
    """Finds faces and tells them apart."""

    recogniser: str  # names the embeddings, e.g. "sface_2021dec"
    unit_norm: bool
    upright_score: float  # detector score, 0…1, that a face only reaches standing upright

    def detect(self, pixels: Pixels) -> tuple[Face, ...]:
        """Faces without embeddings, left to right."""
        ...

    def embed(self, pixels: Pixels, faces: Sequence[Face]) -> tuple[Embedding, ...]:
        """One embedding a face, in order; batched where the model allows."""
        ...

    def read(self, pixels: Pixels) -> tuple[Face, ...]:
        """Detect and embed, left to right."""
        ...


class Landmarker(Protocol):
    def triangles(self) -> NDArray[np.int32]:
        """(M, 3) indices of a mesh's points: the face's surface, eyes and mouth closed."""
        ...

    def mirror(self) -> NDArray[np.int64]:
        """(468,) each landmark's counterpart on the other side of the face."""
        ...

    def mesh(self, pixels: Pixels, face: Face) -> Mesh | None:
        """Dense landmarks of one detected face; None when the model sees no face there."""
        ...


class Parser(Protocol):
    def parts(self, pixels: Pixels, face: Face | None = None) -> Parts:
        """Soft part masks at the picture's size; around `face` in full detail when one is given."""
        ...


class Matter(Protocol):
    def matte(self, pixels: Pixels) -> Mask:
        """Alpha of the people in the picture."""
        ...


class BodyReader(Protocol):
    def joints(self, pixels: Pixels) -> tuple[NDArray[np.float32], ...]:
        """Of everybody, surest first: (18, 3) in OpenPose's order, x, y in pixels and 0…1 how surely it is seen."""
        ...


class DepthReader(Protocol):
    def nearness(self, pixels: Pixels) -> Mask:
        """0 farthest … 1 nearest in this picture."""
        ...


class Guard(Protocol):
    def unsafe(self, pixels: Pixels) -> float:
        """Probability, 0…1, that the picture is not safe to show."""
        ...


class Finisher(Protocol):
    """Improves a painted picture without being told who it is."""

    name: str

    def finish(self, pixels: Pixels) -> Pixels: ...


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a base wants to be painted with, whatever a style says; what it leaves open the style decides."""

    side_px: int = 0  # it paints square pictures of this side only
    steps: int | None = None
    guidance: float | None = None
    sampler: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # of the engine


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The base engines paint on here; `family` is empty when there is none of that name."""

    family: str = ""
    title: str = ""
    note: str = ""
    cards: tuple[EngineCard, ...] = ()  # of every engine, as it is on this base
    fits: frozenset[str] = frozenset()  # names of those that can paint here
    problem: str = ""  # why a base that is named cannot be painted on


@dataclass(frozen=True, kw_only=True)
class EngineCard:
    """What an engine needs, costs and allows; readable without loading it."""

    name: str
    title: str
    learns: str  # "instantly" or "by training"
    bases: tuple[str, ...]  # base model families; empty: none needed
    min_photos: int
    packs: tuple[str, ...]
    needs_canvas: bool  # paints only into a picture
    paints_canvas: bool  # can paint into a picture
    takes_pose: bool = False  # puts the face where the option `pose` says: five points, in 0…1 of the picture
    recogniser: str = ""  # conditions on these embeddings, so they may never judge
    summary: str = ""
    manner: Manner = field(default_factory=Manner)  # of the base it is opened on
    params: type[EngineParams] = EngineParams  # what it can be asked for beyond the request's own fields
    unsupported: Mapping[str, str] = field(default_factory=dict)  # parameters it cannot honour → the reason
    training: type[EngineParams] | None = None  # settings of a training, for engines that train
    filtered_by: tuple[str, ...] = ()  # recognisers that train, guide or choose, so they may never judge either

    @property
    def involved(self) -> tuple[str, ...]:
        """The recognisers that help to make the portraits."""
        return tuple(dict.fromkeys(name for name in (self.recogniser, *self.filtered_by) if name))


@dataclass(frozen=True, kw_only=True, eq=False)
class Identity:
    """What an engine learned of one person; `data` is the engine's own."""

    person: str
    engine: str
    digest: str  # names (crops, settings, pack revisions); equal digest, equal identity
    data: Any
    folder: Path | None = None  # where it is kept, if it is worth keeping


class Paint(Protocol):
    def __call__(self, shot: Shot, onto: Canvas | None = None) -> Pixels: ...


class Engine(Protocol):
    card: EngineCard

    def check(self, style: Style, options: Mapping[str, Any]) -> None:
        """Raises EngineError for what this engine could not paint here, before anybody is learned."""
        ...

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        """Milliseconds for one-photo engines, minutes for training ones."""
        ...

    def sitting(self, identity: Identity, style: Style) -> AbstractContextManager[Paint]:
        """Load once, paint many; on leaving, even by an exception, nothing of the identity stays."""
        ...
