"""Verdicts on real photos, by every recogniser that had no part in the making."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facechain.errors import EngineError, PersonError
from facechain.judge.calibration import read_calibration
from facechain.judge.copying import confusion, copy_paste, identity_confusion
from facechain.judge.judge import LOST, Judge, call
from facechain.judge.warp import LIMIT, USUAL, WARPED, warp
from facechain.judge.words import doubts
from facechain.types import Call, Consent, Crop, Embedding, Person, Verdict
from facechain.vision.readers import LANDMARKERS, READERS

CALIBRATIONS = Path(__file__).resolve().parent.parent / "configs" / "calibration"
DLIB, SFACE = "dlib_resnet_v1", "sface_2021dec"


@pytest.fixture(scope="module")
def judge(models):
    where = lambda pack, file: models / pack / file  # noqa: E731
    readers = [READERS[name](where) for name in ("dlib", "yunet_sface")]
    landmarker = LANDMARKERS["face_landmarker"](where)
    return Judge({reader.recogniser: reader for reader in readers}, read_calibration(CALIBRATIONS), landmarker)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def crop(picture: np.ndarray, reader) -> Crop:
    face = max(reader.detect(picture), key=lambda face: face.width_px)
    mask = np.zeros(picture.shape[:2], np.float32)
    return Crop(photo_id="1", photo_name="1.jpg", pixels=picture, face=face, head_mask=mask, quality=1.0)


def person(crops, held_out) -> Person:
    return Person(
        name="Ada",
        crops=tuple(crops),
        held_out=tuple(held_out),
        template=Embedding(vector=np.ones(1, np.float32), recogniser="another"),
        consent=Consent(who="Ada", given_by="Ada", purpose="tests", when=datetime(2026, 1, 1, tzinfo=UTC)),
    )


@pytest.fixture(scope="module")
def photo(models):
    return {path.stem: pixels(path) for path in (models / "demo-photos").glob("*.jpg")}


@pytest.fixture(scope="module")
def subject(photo, judge):
    return person([crop(photo[name], judge) for name in ("obama", "obama2")], [crop(photo["obama3"], judge)])


@pytest.fixture(scope="module")
def reference(subject, judge):
    return judge.refer(subject)


def test_an_unseen_photo_of_the_person(photo, reference, judge):
    verdict = judge.verdict(photo["obama_partial_face2"], reference)
    assert verdict.call is Call.SAME
    assert verdict.held_out
    assert (verdict.faces, verdict.closer, verdict.cohort, verdict.disagree) == (1, 0, 100, False)
    assert verdict.judge == DLIB
    assert [score.recogniser for score in verdict.scores] == [DLIB, SFACE]
    assert verdict.likeness == pytest.approx(verdict.scores[0].likeness)
    assert verdict.copy_score == pytest.approx(verdict.likeness_given - verdict.likeness)
    assert abs(verdict.copy_paste) < 0.5
    assert verdict.likeness_before is None


def test_a_photo_the_engine_was_given_scores_as_a_copy_of_it(photo, reference, judge):
    verdict = judge.verdict(photo["obama"], reference)
    assert verdict.copy_score > 0
    assert verdict.copy_paste > judge.verdict(photo["obama3"], reference).copy_paste == pytest.approx(-1.0, abs=0.01)


@pytest.mark.parametrize("involved", [(), (SFACE,), (DLIB,)])
def test_strangers_whoever_may_judge(models, photo, reference, judge, involved):
    for stranger in (photo["biden"], pixels(models / "astronaut" / "astronaut.png")):
        verdict = judge.verdict(stranger, reference, involved=involved)
        assert verdict.call is Call.OTHER
        assert {score.recogniser for score in verdict.scores} == {DLIB, SFACE} - set(involved)
    assert judge.verdict(photo["obama"], reference, involved=involved).call is Call.SAME


def test_whoever_helped_never_judges(photo, reference, judge):
    with pytest.raises(EngineError, match="no other recogniser is here"):
        judge.verdict(photo["obama"], reference, involved=(SFACE, DLIB, "glintr100"))


def test_a_face_nobody_could_recognise_is_nobody(photo, reference, judge):
    picture = photo["obama_partial_face2"]
    (face,) = judge.detect(picture)
    scale = 12 / face.height_px
    tiny = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    verdict = judge.verdict(cv2.resize(tiny, picture.shape[1::-1]), reference, place=face.box_px)
    assert verdict.recognisability < judge.verdict(picture, reference).recognisability
    assert verdict.call is Call.UNSURE


def test_the_person_is_found_among_others(photo, reference, judge):
    left, right = photo["biden"], photo["obama_partial_face"]
    height = min(len(left), len(right))
    both = np.concatenate([left[:height], right[:height]], 1)
    free = judge.verdict(both, reference)
    assert (free.faces, free.call) == (2, Call.SAME)
    there = [face.box_px for face in judge.detect(both)]
    assert judge.verdict(both, reference, place=there[0]).call is Call.OTHER
    assert judge.verdict(both, reference, place=there[1]).llr == pytest.approx(free.llr)
    nowhere = judge.verdict(both, reference, place=np.array([0, 0, 9, 9], np.float32))
    assert (nowhere.likeness, nowhere.faces) == (None, 2), "nobody is where the person was meant to be"


def test_people_who_changed_places_are_named(photo, judge):
    names = ("biden", "obama_partial_face")
    height = min(len(photo[name]) for name in names)
    both = np.concatenate([photo[name][:height] for name in names], 1)
    ours = [replace(person([crop(photo[name], judge)], []), name=name) for name in ("obama", "biden")]
    references = [judge.refer(who) for who in ours]
    places = [face.box_px for face in judge.detect(both)]
    verdicts = [judge.verdict(both, who, place=at) for who, at in zip(references, places, strict=True)]
    assert judge.swapped(both, verdicts, references, places) == "the face meant for obama is biden's"
    right = [judge.verdict(both, who, place=at) for who, at in zip(references[::-1], places, strict=True)]
    assert judge.swapped(both, right, references[::-1], places) == ""


def test_before_and_after_finishing(photo, reference, judge):
    before = photo["obama_partial_face2"]
    ruined = cv2.GaussianBlur(before, (0, 0), 6)
    verdict = judge.verdict(ruined, reference, before=before)
    assert verdict.likeness_before == pytest.approx(judge.verdict(before, reference).likeness)
    assert verdict.likeness_before > verdict.likeness


def test_no_face(reference, judge):
    verdict = judge.verdict(np.full((200, 200, 3), 90, np.uint8), reference)
    assert (verdict.faces, verdict.likeness, verdict.llr, verdict.call) == (0, None, None, Call.OTHER)
    assert doubts(verdict) == []


def test_without_photos_held_out_the_given_ones_count_and_it_is_said(photo, subject, judge):
    few = judge.refer(replace(subject, held_out=()))
    verdict = judge.verdict(photo["obama_partial_face2"], few)
    assert (verdict.call, verdict.held_out, verdict.copy_score) == (Call.SAME, False, None)
    assert "too few to hold one back" in doubts(verdict)[-1]


def test_photos_without_a_face_are_refused(photo, subject, judge):
    blank = replace(crop(photo["obama"], judge), pixels=np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(PersonError, match="no face on the photos of Ada"):
        judge.refer(person([blank], []))


def test_somebody_of_the_cohort_is_no_stranger_to_themselves(subject, judge, monkeypatch):
    for number in (0, 40):
        own = {name: judge.calibration.cohorts[name].vectors[number : number + 1] for name in judge.recognisers}
        monkeypatch.setattr(judge, "_photos", lambda crops, own=own: own)
        assert np.nonzero(~judge.refer(subject).members)[0].tolist() == [number]


# ── the decision ─────────────────────────────────────────────────────────────────────────────────


def test_the_decision_rests_on_evidence_look_alikes_and_recognisability():
    fusion = read_calibration(CALIBRATIONS).fusions[0]
    sure = fusion.same + 0.1
    assert call(fusion, sure, 0, 1.0) is Call.SAME
    assert call(fusion, sure, 1, 1.0) is Call.UNSURE, "a stranger of the cohort is as close"
    assert call(fusion, sure, 0, 0.5) is Call.UNSURE, "a poor face asks for more"
    assert call(fusion, sure + 3.0, 0, 0.5) is Call.SAME
    assert call(fusion, 99.0, 0, LOST - 0.01) is call(fusion, -99.0, 0, LOST - 0.01) is Call.UNSURE
    assert call(fusion, fusion.other - 0.1, 0, 1.0) is Call.OTHER


def shown(**values) -> Verdict:
    usual = {
        "person": "Ada",
        "call": Call.UNSURE,
        "likeness": 0.9,
        "likeness_given": None,
        "likeness_before": None,
        "copy_score": None,
        "held_out": True,
        "faces": 1,
        "face_share": 0.3,
        "sharpness": 100.0,
        "judge": DLIB,
        "kept": False,
        "why": "",
    }
    return Verdict(**{**usual, **values})


def test_doubts_in_words():
    assert doubts(shown(closer=5, cohort=100)) == ["the judge is unsure", "1 in 20 strangers would pass too"]
    assert "too small, blurred or covered" in doubts(shown(recognisability=0.3, cohort=100))[1]
    assert doubts(shown(call=Call.SAME, disagree=True)) == ["the recognisers disagree"]
    assert doubts(shown(call=Call.SAME, warp=0.9)) == ["the features look warped"]
    assert doubts(shown(call=Call.SAME)) == []


# ── warped features ──────────────────────────────────────────────────────────────────────────────


def shifted(picture: np.ndarray, centre: np.ndarray, radius: float, by: tuple[float, float]) -> np.ndarray:
    """The picture with what is around `centre` moved by (x, y) px, fading within `radius`."""
    x, y = np.meshgrid(np.arange(picture.shape[1]), np.arange(picture.shape[0]))
    near = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * radius**2))
    there = [(grid - step * near).astype(np.float32) for grid, step in zip((x, y), by, strict=True)]
    return cv2.remap(picture, *there, cv2.INTER_LINEAR)


def test_an_eye_out_of_place_is_a_warp_and_an_untouched_face_is_none(photo, reference, judge):
    picture = photo["obama3"]
    (face,) = judge.detect(picture)
    apart = float(np.linalg.norm(face.points_px[0] - face.points_px[1]))
    warped = shifted(picture, face.points_px[0], 0.3 * apart, (0.0, 0.5 * apart))
    assert judge.verdict(picture, reference).warp < WARPED <= judge.verdict(warped, reference).warp


def test_a_turned_head_is_no_warp(models, judge, subject, reference):
    for path in sorted((models / "johns").glob("*/*.jpg"))[:8]:
        verdict = judge.verdict(pixels(path), reference)
        assert verdict.warp is None or verdict.warp < WARPED, path.name


def test_a_persons_own_asymmetry_is_theirs():
    assert warp(LIMIT, []) == warp(LIMIT, [USUAL]) == pytest.approx(0.5)
    assert warp(LIMIT, [USUAL + 0.01]) < warp(LIMIT, [USUAL]) == warp(LIMIT, [0.001])
    assert warp(None, [USUAL]) is None


# ── several people ───────────────────────────────────────────────────────────────────────────────


def angle(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)


def test_copy_paste_is_one_for_the_given_photo_and_minus_one_for_the_other():
    given, unseen = angle(0), angle(40)
    values = [copy_paste(angle(at), given, unseen) for at in (0, 10, 20, 40)]
    assert values == pytest.approx([1.0, 0.5, 0.0, -1.0], abs=1e-3)
    assert copy_paste(angle(5), given, given) == 0.0


def test_mixed_up_people_are_measured():
    right, mixed = np.array([[0.8, 0.1], [0.0, 0.7]]), np.array([[0.5, 0.45], [0.45, 0.5]])
    assert identity_confusion(right) > 0.8 > 0.2 > identity_confusion(mixed)
    assert identity_confusion(right[:, :1]) == 1.0
    real = np.array([[1.0, 0.1], [0.1, 1.0]])
    assert confusion(real, real) == (0.0, 0.0)
    assert confusion(mixed, real) == pytest.approx((0.5, 0.35))
    drift, blend = confusion(right[::-1], real)
    assert drift > 0.5
    assert blend > 0.5
