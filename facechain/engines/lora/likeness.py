"""Which checkpoint is the most like the person, by a recogniser that is not the judge: the coach."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from facechain.protocols import FaceReader
from facechain.types import Crop, Pixels

Score: TypeAlias = Callable[[Sequence[Pixels]], list[float | None]]  # likeness of each; None: no face


@dataclass(frozen=True, kw_only=True)
class Point:
    step: int
    each: tuple[float | None, ...]

    @property
    def likeness(self) -> float:
        """Mean cosine; a picture without a face counts as 0, as a stranger would."""
        return float(np.mean([0.0 if one is None else one for one in self.each]))


@dataclass(frozen=True, kw_only=True)
class Curve:
    points: tuple[Point, ...] = ()
    set_aside: bool = True  # False: too few photos, so it was scored on pictures it learned from

    def with_point(self, point: Point) -> Curve:
        return Curve(points=(*(p for p in self.points if p.step != point.step), point), set_aside=self.set_aside)

    def best(self, count: int = 1) -> tuple[Point, ...]:
        """The highest first; of equals the earlier."""
        return tuple(sorted(self.points, key=lambda p: (-p.likeness, p.step))[:count])

    def flat(self, patience: int) -> bool:
        """True when the last `patience` points brought no new best."""
        if not patience or len(self.points) <= patience:
            return False
        return self.best()[0] in self.points[: len(self.points) - patience]

    def to_json(self) -> str:
        rows = [{**asdict(point), "likeness": point.likeness} for point in self.points]
        return json.dumps({"set_aside": self.set_aside, "points": rows}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Curve:
        values = json.loads(text)
        points = tuple(Point(step=p["step"], each=tuple(p["each"])) for p in values["points"])
        return cls(points=points, set_aside=values["set_aside"])


def scorer(coach: FaceReader, references: Sequence[Crop]) -> Score:
    """Mean cosine of a picture's largest face with the references' faces."""
    vectors = []
    for crop in references:
        embedding = crop.face.embedding
        if embedding is None or embedding.recogniser != coach.recogniser:
            (embedding,) = coach.embed(crop.pixels, [crop.face])
        vectors.append(embedding.vector / np.linalg.norm(embedding.vector))
    known = np.stack(vectors)

    def score(pictures: Sequence[Pixels]) -> list[float | None]:
        found: list[float | None] = []
        for pixels in pictures:
            faces = coach.detect(pixels)
            if not faces:
                found.append(None)
                continue
            (seen,) = coach.embed(pixels, [max(faces, key=lambda face: face.width_px * face.height_px)])
            found.append(float((known @ (seen.vector / np.linalg.norm(seen.vector))).mean()))
        return found

    return score


def set_aside(crops: Sequence[Crop]) -> tuple[list[Crop], list[Crop]]:
    """(to learn from, to score against): of five or more, the best of every five is scored against and not learned."""
    if len(crops) < 5:
        return list(crops), []
    ranked = sorted(crops, key=lambda crop: (-crop.quality, crop.photo_id))
    aside = {id(crop) for crop in ranked[:: len(ranked) // (len(ranked) // 5)][: len(ranked) // 5]}
    return [c for c in crops if id(c) not in aside], [c for c in crops if id(c) in aside]


def draw(curve: Curve, chosen: int, width: int = 800, height: int = 420) -> Image.Image:
    """The curve with every picture as a dot and the chosen step marked."""
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = 70, 40, width - 30, height - 50
    last = max((p.step for p in curve.points), default=1)
    values = [v for p in curve.points for v in (*(e for e in p.each if e is not None), p.likeness)] or [0.0]
    low, high = min(0.0, *values), max(0.1, *values)

    def at(step: float, value: float) -> tuple[float, float]:
        return left + (right - left) * step / last, bottom - (bottom - top) * (value - low) / (high - low)

    for i in range(5):
        value = low + (high - low) * i / 4
        y = at(0, value)[1]
        pen.line([(left, y), (right, y)], fill="#dddddd")
        pen.text((10, y - 6), f"{value:.2f}", fill="#555555")
    for point in curve.points:
        for one in point.each:
            x, y = at(point.step, one or 0.0)
            pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill="#aac4e0")
        pen.text((at(point.step, 0)[0] - 10, bottom + 8), str(point.step), fill="#555555")
    pen.line([at(p.step, p.likeness) for p in curve.points], fill="#1f5fa8", width=3)
    for point in curve.points:
        if point.step == chosen:
            x, y = at(point.step, point.likeness)
            pen.ellipse([x - 7, y - 7, x + 7, y + 7], outline="#c0392b", width=3)
    seen = "photos set aside" if curve.set_aside else "photos it learned from"
    pen.text((left, 12), f"Likeness by step, against {seen}; step {chosen} was kept", fill="black")
    return picture
