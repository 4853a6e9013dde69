"""Who may be learned, what is kept back, and what the template is."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.errors import ConsentMissing, PersonError
from facechain.people.consent import consent
from facechain.people.enrol import enrol, template
from facechain.people.names import safe_name, slug
from facechain.types import Consent, Crop, Embedding, Face, Pose

AGREED = consent("Ada", "Ada herself", "portraits for her own use")
PIXELS, MASK = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)


def a_crop(number: int, vector, quality: float = 0.9) -> Crop:
    vector = np.asarray(vector, np.float32)
    face = Face(
        box_px=np.array([0, 0, 4, 4], np.float32),
        points_px=np.zeros((5, 2), np.float32),
        score=0.9,
        pose=Pose(yaw_deg=0, pitch_deg=0, roll_deg=0),
        embedding=Embedding(vector=vector / np.linalg.norm(vector), recogniser="r"),
    )
    return Crop(
        photo_id=f"{number:03}", photo_name=f"{number}.jpg", pixels=PIXELS, face=face, head_mask=MASK, quality=quality
    )


def crops_of(count: int, seed: int = 0) -> list[Crop]:
    random = np.random.default_rng(seed)
    centre = random.normal(size=32)
    return [a_crop(n, centre + 0.3 * random.normal(size=32), random.uniform(0.3, 1)) for n in range(count)]


@given(st.integers(1, 40), st.integers(0, 99))
def test_a_quarter_is_held_out_and_nothing_is_lost(count, seed):
    crops = crops_of(count, seed)
    person = enrol("Ada", crops, AGREED)
    assert len(person.held_out) == (0 if count < 3 else max(1, round(count / 4)))
    assert person.crops
    ids = sorted(crop.photo_id for crop in (*person.crops, *person.held_out))
    assert ids == [crop.photo_id for crop in crops]
    assert np.linalg.norm(person.template.vector) == pytest.approx(1, abs=1e-5)
    again = enrol("Ada", crops[::-1], AGREED)
    assert {crop.photo_id for crop in again.held_out} == {crop.photo_id for crop in person.held_out}


def test_the_judges_photo_is_typical_and_the_best_is_learned():
    centre = np.eye(32)[0] * 5
    random = np.random.default_rng(1)
    crops = [a_crop(n, centre + 0.2 * random.normal(size=32), 0.8) for n in range(6)]
    crops += [a_crop(6, centre, 1.0), a_crop(7, -centre + random.normal(size=32), 1.0)]
    person = enrol("Ada", crops, AGREED)
    assert not {"006", "007"} & {crop.photo_id for crop in person.held_out}


def test_a_stranger_does_not_shape_the_template_and_quality_weighs():
    one, two = np.eye(8)[0] + 0.5 * np.eye(8)[1], np.eye(8)[0] - 0.5 * np.eye(8)[1]
    made = template([a_crop(0, one, 0.9), a_crop(1, two, 0.1)]).vector
    assert made @ (one / np.linalg.norm(one)) > made @ (two / np.linalg.norm(two))
    crops = crops_of(6)
    clean = template(crops).vector
    stranger = a_crop(9, np.random.default_rng(8).normal(size=32), 1.0)
    assert clean @ template([*crops, stranger]).vector > 0.999


@pytest.mark.parametrize(
    "statement",
    [
        None,
        Consent(who="", given_by="Ada", purpose="fun", when=datetime.now(UTC)),
        Consent(who="Ada", given_by=" ", purpose="fun", when=datetime.now(UTC)),
        Consent(who="Ada", given_by="Ada", purpose="", when=datetime.now(UTC)),
        Consent(who="Ada", given_by="Ada", purpose="fun", when=datetime.now(UTC) + timedelta(days=2)),
        Consent(who="Ada", given_by="Ada", purpose="fun", when=datetime(2026, 1, 1)),
        Consent(who="Ada", given_by="Ada", purpose="fun" * 500, when=datetime.now(UTC)),
    ],
)
def test_nothing_is_learned_without_consent(statement):
    with pytest.raises(ConsentMissing):
        enrol("Ada", crops_of(4), statement)


def test_no_photos_and_mixed_recognisers():
    with pytest.raises(PersonError, match="no usable photo"):
        enrol("Ada", [], AGREED)
    odd = crops_of(2)
    assert odd[0].face.embedding is not None
    object.__setattr__(odd[0].face.embedding, "recogniser", "another")
    with pytest.raises(PersonError, match="one recogniser"):
        enrol("Ada", odd, AGREED)


BAD_NAMES = [
    "",
    "   ",
    "../../x",
    "..",
    ".",
    "a/b",
    "a\\b",
    "C:",
    "-rf",
    "~root",
    ".hidden",
    "x" * 81,
    "a\0b",
    "…",
    "a\u202eb",
    "A\u200dda",  # looks like Ada
    "Ada\u200c",
    "\u200cعلی",
    "علی\u200c",
]

# Persian, Sinhala, Malayalam, Hindi: names that are written otherwise without their joiners.
NAMES = ["علی\u200cرضا", "ක්\u200dරිෂාන්", "അവന്\u200d", "क्\u200dष", "Bo Example Jr.", "J. R. R.", "Bo [work]", "O'Neil"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_real_people_have(name):
    assert enrol(name, crops_of(1), AGREED).name == name
    assert slug(safe_name(name)) == slug(name)
    assert slug(name) not in {slug(other) for other in NAMES if other != name}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_unsafe_names_are_refused(name):
    with pytest.raises(PersonError) as caught:
        enrol(name, crops_of(1), AGREED)
    assert caught.value.next_step


@given(st.text(max_size=100))
def test_a_slug_is_a_plain_folder_name_or_a_refusal(name):
    try:
        made = slug(name)
    except PersonError:
        return
    assert 1 <= len(made) <= 49
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert made[0] != "-"
    assert slug(safe_name(name)) == made


def test_different_names_get_different_folders():
    names = ["zoe", "Zoe", "Zoë", "zoe ", "李雷", "韩梅梅", "Ada Lovelace", "ada-lovelace", "con", "zoe-x"]
    slugs = {slug(name) for name in names}
    assert len(slugs) == len(names) - 1  # "zoe " is "zoe"
    assert slug("ada") == "ada"
    assert "con" not in slugs
    assert safe_name("  Ada \t Lovelace ") == "Ada Lovelace"
