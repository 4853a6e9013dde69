"""Words: who, the look, what was asked for, and what must not be."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from facechain.portraits.prompt import DECENT, subject, trait, words
from facechain.types import Consent, Crop, Embedding, Face, Person, Pose, Request, Style, Tag

STYLE = Style(id="test", title="test", licence="none", prompt="oil painting", negative="blur")
ASK = Request(people=("Ada",))
FACE = Face(
    box_px=np.zeros(4, np.float32),
    points_px=np.zeros((5, 2), np.float32),
    score=1.0,
    pose=Pose(yaw_deg=0, pitch_deg=0, roll_deg=0),
)


def person(*photos: dict[str, tuple[str, float]]) -> Person:
    crops = tuple(
        Crop(
            photo_id=str(at),
            photo_name=f"{at}.jpg",
            pixels=np.zeros((1, 1, 3), np.uint8),
            face=FACE,
            head_mask=np.zeros((1, 1), np.float32),
            quality=1.0,
            tags=tuple(Tag(name=name, value=value, confidence=sure) for name, (value, sure) in photo.items()),
        )
        for at, photo in enumerate(photos)
    )
    return Person(
        name="Ada",
        crops=crops,
        held_out=(),
        template=Embedding(vector=np.ones(1, np.float32), recogniser="test"),
        consent=Consent(who="Ada", given_by="Ada", purpose="tests", when=datetime(2026, 1, 1, tzinfo=UTC)),
    )


ADULT = {"age": ("adult", 0.9)}


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        ("child", "a child"),
        ("teen", "a teenager"),
        ("adult", "an adult"),
        ("senior", "an elderly person"),
        ("unknown", "a person"),
    ],
)
def test_every_age_has_its_own_word(band, expected):
    assert subject(person({"age": (band, 0.9)})) == expected


def test_nobody_is_called_grown_up_on_a_guess():
    assert subject(person(ADULT, {"age": ("unknown", 0.9)}, {"age": ("teen", 0.9)})) == "a person"
    assert subject(person({"age": ("adult", 0.4)})) == "a person"
    assert trait(person(ADULT, ADULT, {"age": ("teen", 0.9)}), "age") == "adult"


@pytest.mark.parametrize("band", ["child", "teen", "unknown"])
def test_whoever_may_be_a_minor_is_painted_decently(band):
    assert DECENT in words(ASK, STYLE, [person({"age": (band, 0.9)})])[1]
    assert DECENT in words(ASK, STYLE, [person(ADULT), person({"age": (band, 0.9)})])[1]


def test_grown_ups_get_the_words_asked_for():
    prompt, negative = words(replace(ASK, prompt="in the rain, ", negative="hats"), STYLE, [person(ADULT)])
    assert prompt == "an adult, oil painting, in the rain"
    assert negative == "blur, hats"


def test_a_style_may_place_the_subject():
    style = replace(STYLE, prompt="a ship, {person} at the helm")
    assert words(ASK, style, [person(ADULT), person({"age": ("senior", 1.0)})])[0] == (
        "a ship, an adult and an elderly person at the helm"
    )


def test_lasting_traits_are_said_and_passing_ones_are_not():
    photo = {
        **ADULT,
        "hair_colour": ("brown", 0.8),
        "hair_length": ("short", 0.7),
        "glasses": ("yes", 0.9),
        "expression": ("smile", 1.0),
        "background": ("plain light", 1.0),
    }
    assert subject(person(photo)) == "an adult with short brown hair and glasses"


def test_a_picture_of_nobody_in_particular():
    assert words(ASK, Style(id="t", title="t", licence="none"), []) == ("a person", "")
