"""One picture, one person: is it them? By every recogniser that had no part in making the picture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.errors import EngineError, PersonError
from facechain.judge.calibration import Calibration, likeness
from facechain.judge.cohort import Cohort
from facechain.judge.copying import copy_paste
from facechain.judge.fusion import Fusion
from facechain.judge.warp import asymmetry, warp
from facechain.protocols import FaceReader, Landmarker
from facechain.types import Call, Crop, Face, Person, Pixels, Score, Verdict

SHARED = 0.15  # a face that shares less of its box with the place it was meant for is another one
CLEAR = 0.6  # recognisability from which on a face asks for no more than the calibrated limit
PENALTY = 12.0  # log-likelihood ratio asked for besides, for each 1 that recognisability lies below `CLEAR`
LOST = 0.25  # recognisability below which nobody can tell, whatever the scores

Vectors = Mapping[str, NDArray[np.float32]]  # recogniser → (N, D) raw vectors


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A person through the judge's eyes, read once."""

    person: str
    held_out: Vectors  # N may be 0
    given: Vectors
    members: NDArray[np.bool_]  # (C,) of the cohort, those who are strangers to this person's photos
    asymmetries: tuple[float, ...] = ()  # of the person's photos, as far as they can be told

    @property
    def seen(self) -> Vectors:
        """What portraits are compared with: held-out photos where there are any."""
        return self.held_out if _count(self.held_out) else self.given


class Judge:
    """`readers` by the name of their recogniser, the first one's faces used by all; without a landmarker nothing is
    said of warped features."""

    def __init__(
        self, readers: Mapping[str, FaceReader], calibration: Calibration, landmarker: Landmarker | None = None
    ) -> None:
        self.readers = {name: reader for name, reader in readers.items() if name in calibration.cohorts}
        if not self.readers:
            raise EngineError("No recogniser of the judge is calibrated.", "Run scripts/calibrate.")
        self.calibration = calibration
        self._landmarker = landmarker
        self.detect = next(iter(self.readers.values())).detect

    @property
    def recognisers(self) -> tuple[str, ...]:
        return tuple(self.readers)

    def panel(self, involved: Collection[str]) -> tuple[str, ...]:
        """Who may judge a picture that these recognisers helped to make. Raises EngineError when nobody is left.

        Whoever conditioned, trained, guided or filtered never judges.
        """
        left = tuple(name for name in self.readers if name not in involved)
        if not left:
            raise EngineError(
                f"{' and '.join(sorted(set(involved)))} helped to make this picture, and no other recogniser is here "
                "to judge it.",
                "Add another one to `judges` in configs/app.toml and fetch its pack.",
            )
        return left

    def refer(self, person: Person) -> Reference:
        """Raises PersonError when the judge finds no face on any of the photos."""
        held_out, given = (self._photos(crops) for crops in (person.held_out, person.crops))
        if not _count(held_out) and not _count(given):
            raise PersonError(f"The judge finds no face on the photos of {person.name}.", "Add sharper photos.")
        own = np.ones(self.calibration.people, np.bool_)  # members every recogniser finds in these very photos
        for name in self.readers:
            rows = np.vstack([each[name] for each in (held_out, given) if len(each[name])])
            own &= ~self.calibration.cohorts[name].strangers_to(rows)
        seen = [self._asymmetry(crop.pixels, crop.face) for crop in (*person.held_out, *person.crops)]
        return Reference(
            person=person.name,
            held_out=held_out,
            given=given,
            members=~own,
            asymmetries=tuple(one for one in seen if one is not None),
        )

    def verdict(
        self,
        pixels: Pixels,
        reference: Reference,
        *,
        involved: Collection[str] = (),
        place: NDArray[np.float32] | None = None,
        before: Pixels | None = None,
    ) -> Verdict:
        """On one picture, not yet kept or dropped.

        `involved` are the recognisers that helped to make it; `place` where the face meant should be (left, top,
        right, bottom in px), or None for the one most like the person; `before` the picture before finishing.
        Raises EngineError when no recogniser is left to judge.
        """
        panel = self.panel(involved)
        faces = self.detect(pixels)
        view = _View(reference, panel, self.calibration)
        found = self._meant(pixels, faces, view, place)
        if found is None:
            return _no_face(reference, panel, len(faces))
        face, rows = found
        scored = view.look(rows)
        first, seen = panel[0], reference.seen[panel[0]]
        score = float(likeness(rows[first], seen).mean())
        given = reference.given[first]
        to_given = float(likeness(rows[first], given).mean()) if len(given) else None
        unseen = _count(reference.held_out) > 0
        return Verdict(
            person=reference.person,
            call=scored.call,
            likeness=score,
            likeness_given=to_given,
            likeness_before=self._before(before, view, place),
            copy_score=to_given - score if unseen and to_given is not None else None,
            held_out=unseen,
            faces=len(faces),
            face_share=face.height_px / pixels.shape[0],
            sharpness=_sharpness(pixels, face),
            judge=first,
            kept=False,
            why="",
            llr=scored.llr,
            scores=scored.scores,
            disagree=scored.disagree,
            closer=scored.closer,
            cohort=int(reference.members.sum()),
            recognisability=scored.recognisability,
            copy_paste=copy_paste(rows[first], given, reference.held_out[first]) if unseen and len(given) else None,
            warp=warp(self._asymmetry(pixels, face), reference.asymmetries),
        )

    def swapped(
        self,
        pixels: Pixels,
        verdicts: Sequence[Verdict],
        references: Sequence[Reference],
        places: Sequence[NDArray[np.float32]],
        involved: Collection[str] = (),
    ) -> str:
        """Says, of a picture of several people, whose face stands where another's was meant; "" when nobody's does."""
        if len(references) < 2 or all(verdict.call is Call.SAME for verdict in verdicts):
            return ""
        for verdict, place in zip(verdicts, places, strict=True):
            for other in references:
                if verdict.call is Call.SAME or other.person == verdict.person:
                    continue
                if self.verdict(pixels, other, involved=involved, place=place).call is Call.SAME:
                    return f"the face meant for {verdict.person} is {other.person}'s"
        return ""

    def embed(self, pixels: Pixels, faces: Sequence[Face], recognisers: Sequence[str]) -> Vectors:
        """Each recogniser's vectors of these faces, (faces, D)."""
        return {
            name: np.stack([each.vector for each in self.readers[name].embed(pixels, faces)]) for name in recognisers
        }

    def _asymmetry(self, pixels: Pixels, face: Face) -> float | None:
        if self._landmarker is None or (mesh := self._landmarker.mesh(pixels, face)) is None:
            return None
        return asymmetry(mesh, self._landmarker.mirror())

    def _photos(self, crops: Sequence[Crop]) -> Vectors:
        rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.readers}
        for crop in crops:
            faces = self.detect(crop.pixels)
            if faces:
                meant = min(faces, key=lambda face: float(np.abs(face.box_px - crop.face.box_px).sum()))
                for name, vectors in self.embed(crop.pixels, [meant], self.recognisers).items():
                    rows[name].append(vectors[0])
        return {name: np.stack(found) if found else np.zeros((0, 1), np.float32) for name, found in rows.items()}

    def _meant(
        self, pixels: Pixels, faces: Sequence[Face], view: _View, place: NDArray[np.float32] | None
    ) -> tuple[Face, Vectors] | None:
        if place is not None:
            there = [face for face in faces if _shared(face.box_px, place) > SHARED]
            faces = [max(there, key=lambda face: _shared(face.box_px, place))] if there else []
        if not faces:
            return None
        rows = self.embed(pixels, faces, view.fusion.recognisers)
        best = int(view.llr(rows).argmax())
        return faces[best], {name: vectors[best : best + 1] for name, vectors in rows.items()}

    def _before(self, pixels: Pixels | None, view: _View, place: NDArray[np.float32] | None) -> float | None:
        if pixels is None:
            return None
        found = self._meant(pixels, self.detect(pixels), view, place)
        first = view.fusion.recognisers[0]
        return None if found is None else float(likeness(found[1][first], view.reference.seen[first]).mean())


@dataclass(frozen=True, kw_only=True)
class _Scored:
    call: Call
    llr: float
    scores: tuple[Score, ...]
    disagree: bool
    closer: int
    recognisability: float


class _View:
    """A person as a set of recognisers sees them among the strangers of the cohort."""

    def __init__(self, reference: Reference, panel: Sequence[str], calibration: Calibration) -> None:
        self.reference = reference
        self.fusion = calibration.fusion(panel)
        self._alone = [calibration.fusion([name]) for name in self.fusion.recognisers]
        everybody = reference.members.all()
        self._cohorts: dict[str, Cohort] = {}
        for name in self.fusion.recognisers:
            cohort = calibration.cohorts[name]
            self._cohorts[name] = cohort if everybody else cohort.subset(reference.members)
        self._views = [(name, cohort.views[at]) for at in range(2) for name, cohort in self._cohorts.items()]
        self._templates = [cohort.template(reference.seen[name])[None] for name, cohort in self._views]

    def llr(self, rows: Vectors) -> NDArray[np.floating]:
        """(faces,)"""
        return self.fusion.llr(self._normalised(rows))

    def look(self, rows: Vectors) -> _Scored:
        """At one face, (1, D) for each recogniser."""
        normalised = self._normalised(rows)[0]
        llr = float(self.fusion.llr(normalised))
        to_face, to_person = self._to_members(rows), self._to_members(None)
        closer = int((np.maximum(to_face, to_person) >= llr).sum())
        photos = self.reference.seen
        clear = float(
            np.mean(
                [
                    min(cohort.recognisability(rows[name])[0], cohort.recognisability(photos[name]).max())
                    for name, cohort in self._cohorts.items()
                ]
            )
        )
        scores = tuple(
            Score(
                recogniser=name,
                likeness=float(likeness(rows[name], photos[name]).mean()),
                normalised=float(score),
            )
            for name, score in zip(self.fusion.recognisers, normalised, strict=False)
        )
        each = normalised.reshape(2, -1).T  # (recognisers, projected and plain)
        alone = {call(one, float(one.llr(scores)), 0, clear) for one, scores in zip(self._alone, each, strict=True)}
        return _Scored(
            call=call(self.fusion, llr, closer, clear),
            llr=llr,
            scores=scores,
            disagree={Call.SAME, Call.OTHER} <= alone,
            closer=closer,
            recognisability=clear,
        )

    def _normalised(self, rows: Vectors) -> NDArray[np.floating]:
        """(faces, 2 · recognisers), the plain ones last"""
        views = zip(self._views, self._templates, strict=True)
        return np.stack([c.normalised(c.project(rows[name]), template)[:, 0] for (name, c), template in views], -1)

    def _to_members(self, rows: Vectors | None) -> NDArray[np.floating]:
        """(C,) log-likelihood ratios of each stranger to the face, or to the person when no face is given."""
        views = zip(self._views, self._templates, strict=True)
        scores = [c.to_members(own if rows is None else c.project(rows[name]))[0] for (name, c), own in views]
        return self.fusion.llr(np.stack(scores, -1))


def call(fusion: Fusion, llr: float, closer: int, recognisability: float) -> Call:
    """Same person only where the face can be recognised and no stranger of the cohort is as close."""
    if recognisability < LOST:
        return Call.UNSURE
    if llr < fusion.other:
        return Call.OTHER
    asked = fusion.same + PENALTY * max(0.0, CLEAR - recognisability)
    return Call.SAME if llr >= asked and closer == 0 else Call.UNSURE


def _count(photos: Vectors) -> int:
    return len(next(iter(photos.values())))


def _shared(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Of two boxes' area together, the part that lies in both (intersection over union)."""
    wide, high = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(max(wide, 0) * max(high, 0))
    each = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return both / max(sum(each) - both, 1e-6)


def _sharpness(pixels: Pixels, face: Face) -> float:
    """Variance of the Laplacian of the face, scaled to 112 px."""
    left, top, right, bottom = np.round(face.box_px).astype(int)
    crop = pixels[max(top, 0) : bottom, max(left, 0) : right]
    if not crop.size:
        return 0.0
    grey = cv2.cvtColor(cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _no_face(reference: Reference, panel: Sequence[str], faces: int) -> Verdict:
    return Verdict(
        person=reference.person,
        call=Call.OTHER,
        likeness=None,
        likeness_given=None,
        likeness_before=None,
        copy_score=None,
        held_out=_count(reference.held_out) > 0,
        faces=faces,
        face_share=0.0,
        sharpness=0.0,
        judge=panel[0],
        kept=False,
        why="",
    )
