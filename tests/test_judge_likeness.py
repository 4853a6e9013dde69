"""Verdicts: on real photos with the real judge, and on faces placed by hand."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facechain.errors import EngineError, PersonError
from facechain.judge.calibration import Calibration, likeness, read_calibration
from facechain.judge.likeness import Reference, judge, refer, swapped
from facechain.types import Call, Consent, Crop, Embedding, Face, Person, Pose
from facechain.vision.readers import READERS

CALIBRATIONS = Path(__file__).resolve().parent.parent / "configs" / "calibration"


@pytest.fixture(scope="module")
def dlib(models):
    return READERS["dlib"](lambda pack, file: models / pack / file)


@pytest.fixture(scope="module")
def calibration(dlib):
    return read_calibration(CALIBRATIONS, dlib.recogniser)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def crop(path: Path, reader) -> Crop:
    picture = pixels(path)
    face = max(reader.detect(picture), key=lambda face: face.width_px)
    mask = np.zeros(picture.shape[:2], np.float32)
    return Crop(photo_id=path.stem, photo_name=path.name, pixels=picture, face=face, head_mask=mask, quality=1.0)


def person(crops, held_out) -> Person:
    return Person(
        name="Ada",
        crops=tuple(crops),
        held_out=tuple(held_out),
        template=Embedding(vector=np.ones(1, np.float32), recogniser="another"),
        consent=Consent(who="Ada", given_by="Ada", purpose="tests", when=datetime(2026, 1, 1, tzinfo=UTC)),
    )


@pytest.fixture(scope="module")
def subject(models, dlib):
    folder = models / "demo-photos"
    return person(
        [crop(folder / f"{name}.jpg", dlib) for name in ("obama", "obama2")], [crop(folder / "obama3.jpg", dlib)]
    )


@pytest.fixture(scope="module")
def reference(subject, dlib):
    return refer(subject, dlib)


# ── real photos ──────────────────────────────────────────────────────────────────────────────────


def test_an_unseen_photo_of_the_person(models, reference, dlib, calibration):
    verdict = judge(pixels(models / "demo-photos" / "obama_partial_face2.jpg"), reference, dlib, calibration)
    assert verdict.call is Call.SAME
    assert verdict.held_out
    assert verdict.faces == 1
    assert verdict.judge == "dlib_resnet_v1"
    assert verdict.likeness is not None
    assert verdict.likeness_given is not None
    assert verdict.copy_score == pytest.approx(verdict.likeness_given - verdict.likeness)
    assert abs(verdict.copy_score) < 0.06
    assert 0 < verdict.face_share < 1
    assert verdict.likeness_before is None


def test_a_photo_the_engine_was_given_scores_as_a_copy_of_it(models, reference, dlib, calibration):
    verdict = judge(pixels(models / "demo-photos" / "obama.jpg"), reference, dlib, calibration)
    assert verdict.likeness_given > verdict.likeness
    assert verdict.copy_score > 0


@pytest.mark.parametrize("stranger", ["demo-photos/biden.jpg", "astronaut/astronaut.png"])
def test_strangers(models, reference, dlib, calibration, stranger):
    verdict = judge(pixels(models / stranger), reference, dlib, calibration)
    assert verdict.call is Call.OTHER
    assert verdict.likeness < calibration.other


def small(path: Path, reader) -> np.ndarray:
    """A portrait of 128 px, the face half as high as the picture, as the smallest bases paint one."""
    picture = pixels(path)
    (face,) = reader.detect(picture)
    left, top = np.maximum(face.points_px.mean(0) - face.height_px, 0).astype(int)
    cut = picture[top : top + int(2 * face.height_px), left : left + int(2 * face.height_px)]
    side = min(cut.shape[:2])
    return cv2.resize(cut[:side, :side], (128, 128), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("name", "call"), [("obama", Call.SAME), ("obama_partial_face2", Call.SAME), ("biden", Call.OTHER)]
)
def test_portraits_of_128_px_are_not_too_small_to_tell(models, reference, dlib, calibration, name, call):
    verdict = judge(small(models / "demo-photos" / f"{name}.jpg", dlib), reference, dlib, calibration)
    assert verdict.faces == 1
    assert verdict.face_share * 128 > calibration.min_face_px
    assert verdict.sharpness > 10 * calibration.min_sharpness
    assert verdict.call is call


def test_the_person_is_found_among_others(models, reference, dlib, calibration):
    left, right = (pixels(models / "demo-photos" / f"{name}.jpg") for name in ("biden", "obama_partial_face"))
    height = min(len(left), len(right))
    both = np.concatenate([left[:height], right[:height]], 1)
    free = judge(both, reference, dlib, calibration)
    assert free.faces == 2
    assert free.call is Call.SAME
    there = [face.box_px for face in dlib.detect(both)]
    assert judge(both, reference, dlib, calibration, place=there[0]).call is Call.OTHER
    assert judge(both, reference, dlib, calibration, place=there[1]).likeness == free.likeness
    nowhere = judge(both, reference, dlib, calibration, place=np.array([0, 0, 9, 9], np.float32))
    assert (nowhere.likeness, nowhere.faces) == (None, 2), "nobody is where the person was meant to be"


def test_before_and_after_finishing(models, reference, dlib, calibration):
    before = pixels(models / "demo-photos" / "obama_partial_face2.jpg")
    ruined = cv2.GaussianBlur(before, (0, 0), 6)
    verdict = judge(ruined, reference, dlib, calibration, before=before)
    assert verdict.likeness_before == judge(before, reference, dlib, calibration).likeness
    assert verdict.likeness_before > verdict.likeness
    assert verdict.sharpness < judge(before, reference, dlib, calibration).sharpness / 4


def test_no_face(reference, dlib, calibration):
    verdict = judge(np.full((200, 200, 3), 90, np.uint8), reference, dlib, calibration)
    assert verdict.faces == 0
    assert verdict.likeness is None
    assert verdict.call is Call.OTHER


def test_the_coach_is_never_the_judge(models, reference, dlib, calibration):
    with pytest.raises(EngineError, match="cannot judge"):
        judge(pixels(models / "demo-photos" / "obama.jpg"), reference, dlib, calibration, coach=dlib.recogniser)


def test_without_photos_held_out_the_given_ones_count_and_it_is_said(models, subject, dlib, calibration):
    few = refer(replace(subject, held_out=()), dlib)
    verdict = judge(pixels(models / "demo-photos" / "obama_partial_face2.jpg"), few, dlib, calibration)
    assert not verdict.held_out
    assert verdict.copy_score is None
    assert verdict.likeness == verdict.likeness_given


def test_of_several_faces_on_a_photo_the_persons_own_is_learned(models, subject, dlib):
    own = crop(models / "demo-photos" / "obama.jpg", dlib)
    stranger = pixels(models / "demo-photos" / "biden.jpg")
    height = min(len(own.pixels), len(stranger))
    both = np.concatenate([own.pixels[:height], stranger[:height]], 1)
    crowded = refer(replace(subject, crops=(replace(own, pixels=both),), held_out=()), dlib).given
    alone = refer(replace(subject, crops=(own,), held_out=()), dlib).given
    assert likeness(crowded, alone)[0, 0] > 0.99


def test_a_person_whom_the_judge_cannot_see_is_refused(subject, dlib):
    blank = replace(subject.crops[0], pixels=np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(PersonError, match="no face"):
        refer(replace(subject, crops=(blank,), held_out=()), dlib)


# ── faces placed by hand ─────────────────────────────────────────────────────────────────────────


class Placed:
    """A reader that sees the faces it was told of, each with an angle for an embedding."""

    recogniser = "placed"
    unit_norm = True

    def __init__(self, *angles: float, face_px: float = 50) -> None:
        self.angles = angles
        self.face_px = face_px

    def detect(self, pixels):
        return tuple(
            Face(
                box_px=np.array([60 * at, 10, 60 * at + self.face_px, 10 + self.face_px], np.float32),
                points_px=np.zeros((5, 2), np.float32),
                score=1.0,
                pose=Pose(yaw_deg=0, pitch_deg=0, roll_deg=0),
            )
            for at in range(len(self.angles))
        )

    def embed(self, pixels, faces):
        turned = [self.angles[round(float(face.box_px[0]) / 60)] for face in faces]
        rows = [np.array([np.cos(angle), np.sin(angle)], np.float32) for angle in turned]
        return tuple(Embedding(vector=row, recogniser=self.recogniser) for row in rows)

    def read(self, pixels):
        raise AssertionError("the judge embeds only the faces it needs")


NOISE = np.random.default_rng(0).integers(0, 256, (100, 300, 3), np.uint8)
AHEAD = np.array([[1.0, 0.0]], np.float32)
RULE = Calibration(
    recogniser="placed",
    same=0.9,
    other=0.5,
    min_face_px=40,
    min_sharpness=5,
    people=2,
    photos=2,
    same_pairs=1,
    different_pairs=1,
    false_matches=0,
    false_non_matches=0,
    false_match_rate_low=0,
    false_match_rate_high=1,
    sources="",
    limits="",
)
KNOWN = Reference(person="Ada", recogniser="placed", held_out=AHEAD, given=AHEAD)


def test_likeness_is_the_mean_over_photos_held_out():
    two = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    verdict = judge(NOISE, replace(KNOWN, held_out=two), Placed(0.0), RULE)
    assert verdict.likeness == pytest.approx(0.5)
    assert verdict.likeness_given == pytest.approx(1.0)
    assert verdict.copy_score == pytest.approx(0.5)
    assert verdict.face_share == pytest.approx(0.5)


def test_the_face_at_its_place_is_judged_even_when_it_moved_a_little():
    reader = Placed(2.0, 0.0, 1.0)
    places = [face.box_px + np.float32(8) for face in reader.detect(NOISE)]
    at = [judge(NOISE, KNOWN, reader, RULE, place=place).likeness for place in places]
    assert at == pytest.approx([np.cos(2.0), 1.0, np.cos(1.0)], abs=1e-6)
    assert judge(NOISE, KNOWN, reader, RULE).likeness == pytest.approx(1.0)


def test_people_who_changed_places_are_named():
    bo = replace(KNOWN, person="Bo", held_out=AHEAD[:, ::-1], given=AHEAD[:, ::-1])
    reader = Placed(np.pi / 2, 0.0)  # Bo, then Ada
    places = [face.box_px for face in reader.detect(NOISE)]
    for people, said in (((KNOWN, bo), "the face meant for Ada is Bo's"), ((bo, KNOWN), "")):
        verdicts = [judge(NOISE, who, reader, RULE, place=at) for who, at in zip(people, places, strict=True)]
        assert swapped(NOISE, verdicts, people, places, reader, RULE) == said


def test_calls():
    calls = [judge(NOISE, KNOWN, Placed(angle), RULE).call for angle in (0.1, 0.8, 1.5)]
    assert calls == [Call.SAME, Call.UNSURE, Call.OTHER]
    assert judge(NOISE, KNOWN, Placed(0.1, face_px=30), RULE).call is Call.UNSURE
    assert judge(np.full_like(NOISE, 90), KNOWN, Placed(0.1), RULE).call is Call.UNSURE


def test_a_face_cut_by_the_edge_has_a_sharpness_too():
    verdict = judge(NOISE[:, :55], KNOWN, Placed(0.0, 0.0), RULE, place=np.array([60, 25, 110, 75], np.float32))
    assert verdict.sharpness == 0.0
