"""Accepted photos and a consent become a person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facechain.errors import PersonError
from facechain.people.consent import checked
from facechain.people.names import safe_name
from facechain.types import Consent, Crop, Embedding, Person

HELD_SHARE = 0.25  # of the photos are the judge's
MIN_TO_HOLD = 3  # fewer photos are all needed for learning
_OUTLIER = 0.5  # of the median likeness to the others: below, a photo does not shape the template


def enrol(name: str, crops: Sequence[Crop], consent: Consent | None, held_share: float = HELD_SHARE) -> Person:
    """A person with crops to learn from, crops held out for the judge, and a template of the former.

    Of three or more photos a quarter, at least one, is held out: good and typical ones, but never the very best, and
    always the same ones for the same photos.
    Raises ConsentMissing without consent, PersonError for an unsafe name, no photos, or incomparable embeddings.
    """
    agreed = checked(consent)
    safe = safe_name(name)
    if not crops:
        raise PersonError(f"There is no usable photo of {safe}.", "Add photos; `facechain photos check` says why not.")
    held = _held_out(crops, held_share)
    learn = tuple(crop for index, crop in enumerate(crops) if index not in held)
    return Person(
        name=safe,
        crops=learn,
        held_out=tuple(crop for index, crop in enumerate(crops) if index in held),
        template=template(learn),
        consent=agreed,
    )


def template(crops: Sequence[Crop]) -> Embedding:
    """Quality-weighted mean of the crops' embeddings without outliers, unit length."""
    rows, recogniser = _rows(crops)
    weights = np.array([max(crop.quality, 1e-3) for crop in crops])
    likeness = _typicality(rows)
    kept = likeness >= _OUTLIER * np.median(likeness) if len(crops) > 2 else np.ones(len(crops), bool)
    mean = (rows[kept] * weights[kept, None]).sum(0)
    norm = float(np.linalg.norm(mean))
    if norm < 1e-6:
        raise PersonError("The photos contradict each other.", "Remove the photos of other people.")
    return Embedding(vector=(mean / norm).astype(np.float32), recogniser=recogniser, unit_norm=True)


def _held_out(crops: Sequence[Crop], share: float) -> set[int]:
    count = len(crops)
    if count < MIN_TO_HOLD:
        return set()
    wanted = min(max(1, round(share * count)), count // 2)
    typical = _typicality(_rows(crops)[0])
    order = sorted(range(count), key=lambda index: (-crops[index].quality * typical[index], crops[index].photo_id))
    return set(order[1::2][:wanted])


def _typicality(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median cosine of each row to the others, floored at 0, (N,); the median shrugs off a few strangers."""
    if len(rows) == 1:
        return np.ones(1)
    cosines = rows @ rows.T
    others = cosines[~np.eye(len(rows), dtype=bool)].reshape(len(rows), -1)
    return np.maximum(np.median(others, axis=1), 0)


def _rows(crops: Sequence[Crop]) -> tuple[NDArray[np.float64], str]:
    """(N, D) unit rows and the recogniser they come from."""
    embeddings = [crop.face.embedding for crop in crops]
    known = [embedding for embedding in embeddings if embedding is not None]
    names = {embedding.recogniser for embedding in known}
    if len(known) < len(embeddings) or len(names) != 1:
        raise PersonError("These photos were not read by one recogniser.", "Add all of them again.")
    rows = np.stack([embedding.vector for embedding in known]).astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), names.pop()
