"""The template engine behind the engine protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from facechain.engines.template.card import CARD, TemplateParams
from facechain.engines.template.choose import Source, good
from facechain.engines.template.fuse import Settings, fuse
from facechain.errors import EngineError, TemplateError
from facechain.protocols import Identity, Landmarker, Paint, Parser, Tick, silent
from facechain.types import Canvas, Crop, Part, Person, Pixels, Shot, Style

_GOLDEN = 0.618  # share of a range


class TemplateEngine:
    card = CARD

    def __init__(self, landmarker: Landmarker, parser: Parser) -> None:
        self._landmarker = landmarker
        self._parser = parser

    def check(self, style: Style, options: Mapping[str, Any]) -> None:
        TemplateParams.parse(options, self.card.title)

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        """Landmarks and bare skin of every crop. Raises EngineError when no crop shows a readable face."""
        sources = []
        for done, crop in enumerate(person.crops):
            tick("reading the face", done, len(person.crops))
            if (source := self._source(crop)) is not None:
                sources.append(source)
        if not sources:
            raise EngineError(
                f"No landmarks were found on any photo of {person.name}.", "Add a sharp photo looking to the camera."
            )
        tick("reading the face", len(person.crops), len(person.crops))
        digest = hashlib.sha256("\n".join(sorted(s.photo_id for s in sources)).encode()).hexdigest()
        return Identity(person=person.name, engine=CARD.name, digest=digest, data=tuple(sources))

    def _source(self, crop: Crop) -> Source | None:
        mesh = self._landmarker.mesh(crop.pixels, crop.face)
        if mesh is None:
            return None
        masks = self._parser.parts(crop.pixels, crop.face).masks
        bare = np.clip(1 - masks[Part.HAIR] - masks[Part.OTHER] - masks[Part.BACKGROUND], 0, 1)
        return Source(
            photo_id=crop.photo_id,
            pixels=crop.pixels,
            mesh=mesh,
            bare=bare.astype(np.float32),
            quality=crop.quality,
        )

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        """Nothing is loaded into a model, so there is nothing to take out."""

        def paint(shot: Shot, onto: Canvas | None = None) -> Pixels:
            if onto is None:
                raise TemplateError("The template engine paints into a picture.", "Give one with --template IMAGE.")
            return self._paint(identity, shot, onto)

        yield paint

    def _paint(self, identity: Identity, shot: Shot, onto: Canvas) -> Pixels:
        face = onto.faces[onto.slot]
        mesh = self._landmarker.mesh(onto.pixels, face)
        if mesh is None:
            raise TemplateError(
                f"Face {onto.slot + 1} of the template cannot be read.", "Choose a picture with a clearer face."
            )
        sources, params = good(identity.data, mesh), TemplateParams.parse(shot.options, self.card.title)
        source, settings = sources[shot.index % len(sources)], _settings(params, shot, shot.index // len(sources))
        parts = self._parser.parts(onto.pixels, face)
        return fuse(onto.pixels, mesh, parts, source, self._landmarker.triangles(), settings)


def _settings(params: TemplateParams, shot: Shot, round: int) -> Settings:
    """What the shot leaves open varies by what an eye can see, so that there is a choice.

    `round`: how often every photo has been used before. Steps of the golden ratio spread however many there are.
    """
    rng = np.random.default_rng(shot.seed)
    varied = {
        "shape": 0.4 + 0.6 * ((0.8 + _GOLDEN * round + rng.uniform(0, 0.1)) % 1),
        "identity_scale": 1 - 0.1 * (_GOLDEN * round % 1),
        "light": rng.uniform(0.65, 0.85),
    }
    chosen = {name: value for name, value in params.model_dump().items() if value is not None}
    return Settings(**{**varied, **chosen}, seed=shot.seed)
