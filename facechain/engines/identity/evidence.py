"""What an engine keeps of a person: the photos that agree, their face vectors, and the vectors' mean."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from facechain.engines.identity.fusion import fuse
from facechain.engines.identity.methods import METHODS, check_embedding
from facechain.errors import PersonError
from facechain.protocols import FaceReader, Identity, Tick
from facechain.types import Crop, Embedding, Person


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    crops: tuple[Crop, ...]  # best first
    vectors: tuple[Embedding, ...]  # of the crops; empty when the method looks at pixels only
    fused: Embedding | None  # their weighted mean

    @property
    def shares(self) -> tuple[float, ...]:
        """How much each photo counts in a mean, by quality; they sum to 1."""
        total = sum(crop.quality for crop in self.crops)
        return tuple(crop.quality / total if total > 0 else 1 / len(self.crops) for crop in self.crops)

    @property
    def best(self) -> Crop:
        return self.crops[0]


def learn_faces(
    person: Person, engine: str, kind: str, reader: FaceReader | None, tick: Tick, recogniser: str = "", **settings: Any
) -> Identity:
    """Reads every crop with the method's recogniser, leaves out those that disagree, and averages by quality.

    Raises PersonError without crops, EngineError when the reader is not the one the method was trained on.
    """
    if not person.crops:
        raise PersonError(f"{person.name} has no photo to learn from.", "Add one clear photo of the face.")
    crops = sorted(person.crops, key=lambda crop: -crop.quality)
    if METHODS[kind].recogniser:
        if reader is None:
            raise PersonError(f"{METHODS[kind].title} needs a face reader.", "Fetch the pack of its recogniser.")
        vectors = []
        for done, crop in enumerate(crops):
            tick("reading faces", done, len(crops))
            (vector,) = reader.embed(crop.pixels, [crop.face])
            check_embedding(kind, vector, recogniser)
            vectors.append(vector)
        fused = fuse(vectors, [crop.quality for crop in crops])
        evidence = Evidence(
            crops=tuple(crops[i] for i in fused.kept),
            vectors=tuple(vectors[i] for i in fused.kept),
            fused=fused.embedding,
        )
    else:
        seen = [crop.face.embedding for crop in crops]
        known = [one for one in seen if one is not None]
        # It looks at pixels only; who disagrees is still known from enrolment.
        kept = fuse(known, [crop.quality for crop in crops]).kept if len(known) == len(crops) else range(len(crops))
        evidence = Evidence(crops=tuple(crops[i] for i in kept), vectors=(), fused=None)
    tick("reading faces", len(crops), len(crops))
    named = [engine, kind, recogniser, settings, [crop.photo_id for crop in crops]]
    digest = hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()
    return Identity(person=person.name, engine=engine, digest=digest, data=evidence)
