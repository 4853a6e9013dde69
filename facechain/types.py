"""Frozen values that flow from photos to judged portraits.

Conventions: pictures are (H, W, 3) uint8 RGB, upright. `_px` is pixels with x right and y down,
`_deg` degrees, `likeness` a cosine in -1…1. Yaw is positive when the person's face turns towards
the right edge of the picture, pitch positive when it looks up, roll positive when it leans clockwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB
Mask: TypeAlias = NDArray[np.float32]  # (H, W), 0 outside … 1 inside
Points: TypeAlias = NDArray[np.float32]  # (N, 2) x, y


# ── faces ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """One face as a vector; two are comparable only when `recogniser` and `unit_norm` agree."""

    vector: NDArray[np.float32]  # (D,)
    recogniser: str
    unit_norm: bool = True


@dataclass(frozen=True, kw_only=True)
class Pose:
    yaw_deg: float
    pitch_deg: float
    roll_deg: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    box_px: NDArray[np.float32]  # (4,) left, top, right, bottom
    points_px: Points  # (5, 2) left eye, right eye, nose, left and right mouth corner, as seen in the picture
    score: float  # detector confidence 0…1
    pose: Pose
    embedding: Embedding | None = None

    @property
    def width_px(self) -> float:
        return float(self.box_px[2] - self.box_px[0])

    @property
    def height_px(self) -> float:
        return float(self.box_px[3] - self.box_px[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """Dense landmarks of one face in MediaPipe's order."""

    points_px: NDArray[np.float32]  # (478, 3) x, y, and depth in pixels (smaller is nearer)
    expressions: Mapping[str, float]  # 52 ARKit-style coefficients, 0…1
    pose: Pose
    score: float  # probability that this is a face, 0…1


class Part(StrEnum):
    """What a pixel of a portrait belongs to."""

    BACKGROUND = "background"
    HAIR = "hair"
    BODY_SKIN = "body_skin"
    FACE_SKIN = "face_skin"
    CLOTHES = "clothes"
    OTHER = "other"  # glasses, hats, jewellery


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Soft part masks of one picture; at every pixel they sum to 1."""

    masks: Mapping[Part, Mask]


# ── photos ───────────────────────────────────────────────────────────────────────────────────────


class NoteKind(StrEnum):
    """What was done to read a picture that a person may not expect."""

    TURNED = "turned"
    OTHER_FORMAT = "other_format"
    LATER_FRAME = "later_frame"
    RAW_PREVIEW = "raw_preview"


@dataclass(frozen=True, kw_only=True)
class Note:
    """One remark about how a picture was read; it goes along with whatever becomes of the picture."""

    kind: NoteKind
    detail: str  # what differs from picture to picture: degrees, format, frame number, size
    text: str  # an English sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    id: str  # sha256 of the file, hex
    name: str  # the file's own name, without folders
    pixels: Pixels
    notes: tuple[Note, ...] = ()


class Reason(StrEnum):
    """Why a photo cannot be learned from."""

    UNREADABLE = "unreadable"
    NO_FACE = "no_face"
    SEVERAL_PEOPLE = "several_people"
    TOO_SMALL = "too_small"
    BLURRED = "blurred"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    TURNED_AWAY = "turned_away"
    COVERED = "covered"
    DUPLICATE = "duplicate"
    SOMEONE_ELSE = "someone_else"


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One observed trait, e.g. name "glasses", value "yes"; value "unknown" means cannot tell."""

    name: str
    value: str
    confidence: float  # 0…1


@dataclass(frozen=True, kw_only=True)
class Network:
    """A recogniser's file: aligned RGB chips of 112 px, (value - centre) / scale, to vectors."""

    file: Path  # ONNX
    centre: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """An accepted photo, cut to aligned portrait framing."""

    photo_id: str
    photo_name: str
    pixels: Pixels  # square
    face: Face  # in crop pixels, with embedding
    head_mask: Mask  # hair and face
    quality: float  # 0…1
    photo_px: Points | None = None  # (4, 2) corners of the photo in crop pixels: past them the crop is filled
    tags: tuple[Tag, ...] = ()
    caption: str = ""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rejection:
    photo_id: str
    photo_name: str
    reason: Reason
    advice: str  # one sentence for the person
    notes: tuple[Note, ...] = ()


# ── people ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Consent:
    who: str  # whose face it is
    given_by: str  # the person themselves, or a guardian
    purpose: str
    when: datetime


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """What engines may learn from; `held_out` crops are for the judge alone."""

    name: str
    crops: tuple[Crop, ...]
    held_out: tuple[Crop, ...]
    template: Embedding  # quality-weighted mean of the crops
    consent: Consent


# ── portraits ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class StyleLora:
    """Style weights for one family of bases: a file of a pack, and how strongly."""

    family: str
    pack: str
    file: str
    scale: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Style:
    """One look; see configs/styles/."""

    id: str
    title: str
    licence: str
    revision: str = "1"  # changes whenever the look does, so that a recipe names exactly one look
    group: str = ""  # what it is listed under
    prompt: str = ""  # {person} becomes who, {age} the words of `ages` for them
    negative: str = ""
    ages: Mapping[str, str] = field(default_factory=dict)  # child, teen, adult, senior → words
    bases: tuple[str, ...] = ()  # families of bases it is made for; empty: any
    loras: tuple[StyleLora, ...] = ()
    sampler: str = ""  # empty: the engine's own
    steps: int | None = None
    guidance: float | None = None
    template_pack: str = ""  # a picture to paint into, for template styles
    template_file: str = ""
    width_px: int = 512
    height_px: int = 512
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What was asked; may leave things open."""

    people: tuple[str, ...]
    engine: str = ""  # empty: the default
    base: str = ""  # Stable Diffusion folder or file; empty: the default
    style: str = ""
    template: Pixels | None = None
    template_name: str = ""
    slots: tuple[int | None, ...] = ()  # face number, left to right, for each person; empty: in order
    prompt: str = ""
    negative: str = ""
    count: int = 4
    keep: int | None = None
    budget: int | None = None  # go on until `keep` are the same person, up to this many; None: make `count`
    seed: int | None = None
    floor: float | None = None  # least likeness, −1…1, of a portrait that is kept; None: the judge's own limit
    width_px: int | None = None  # of pictures painted anew; None: the style's
    height_px: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # engine's own settings, e.g. strength, shape


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What will be done; nothing left to guess. Same shot, same pixels."""

    index: int
    seed: int
    prompt: str
    negative: str
    width_px: int
    height_px: int
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """A picture to paint into and the face in it that is to become the person."""

    pixels: Pixels
    faces: tuple[Face, ...]  # left to right
    slot: int  # index into faces


@dataclass(frozen=True, kw_only=True, eq=False)
class Portrait:
    id: str
    people: tuple[str, ...]
    pixels: Pixels
    before_finish: Pixels | None  # None when no finisher ran
    slots: tuple[int, ...]  # which face (left to right) each person became; empty if painted freely
    recipe: Mapping[str, Any]  # engine, packs with revisions, style, shot, seconds; JSON-ready


# ── judging ──────────────────────────────────────────────────────────────────────────────────────


class Call(StrEnum):
    SAME = "same person"
    UNSURE = "unsure"
    OTHER = "someone else"


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one recogniser says of one face."""

    recogniser: str
    likeness: float  # raw, −1…1
    normalised: float  # by the cohort; higher is more alike


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How far one face of a portrait is one person, by recognisers the engine did not use."""

    person: str
    call: Call
    likeness: float | None  # to held-out photos; None when no face was found
    likeness_given: float | None  # to the photos the engine saw
    likeness_before: float | None  # to held-out photos, before finishing
    copy_score: float | None  # likeness_given - likeness: large means a pasted copy
    held_out: bool  # False: too few photos, so likeness rests on seen ones
    faces: int
    face_share: float  # face height / picture height
    sharpness: float  # variance of the Laplacian over a 112 px face
    judge: str  # whose raw likeness is shown, the first of `scores`
    kept: bool
    why: str
    llr: float | None = None  # log-likelihood ratio, same over different person; None in records of before it was told
    scores: tuple[Score, ...] = ()  # of every recogniser that spoke
    disagree: bool = False  # one alone would say the same person, another someone else
    closer: int = 0  # strangers of the cohort as close to the portrait, or to the person, as the two are to each other
    cohort: int = 0  # strangers there are; 0: not looked at
    recognisability: float | None = None  # 0…1, of the face or of the photos, whichever is worse
    copy_paste: float | None = None  # 1 the given photo, −1 another photo of the person, 0 in between
    warp: float | None = None  # 0…1: how surely the face's features are warped; None: not looked at, or cannot tell

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Verdict:
        """From JSON, of any version. Raises KeyError, TypeError or ValueError when it is no verdict."""
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        scores = tuple(Score(**score) for score in known.get("scores") or ())
        return cls(**{**known, "call": Call(known["call"]), "scores": scores})


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Long work that outlives the page, the process and the machine it was asked from."""

    id: str
    kind: str
    owner: str  # the user's slug; "" is who sits at the machine
    arguments: Mapping[str, Any]
    state: JobState
    position: int | None  # in line, 1 is next; None unless queued
    stage: str  # what it is, or was last seen, doing
    done: int  # steps of the stage
    total: int
    eta_s: float | None  # until the stage is done
    preview: str | None  # newest picture
    cancelling: bool  # asked to stop, and not yet there
    result: Mapping[str, Any] | None
    error: str  # what went wrong
    next_step: str
    attempt: int  # 1 the first time
    generation: str = ""  # of the owner's workspace when it was submitted; see store.tombstones
    created: datetime  # UTC, as all times
    started: datetime | None
    seen: datetime | None  # last sign of life
    ended: datetime | None
