"""Several people in one picture: who goes where, one after the other, everybody else untouched."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.errors import TemplateError
from facechain.portraits.finish import finish
from facechain.portraits.scene import CHUNK, assign, paint
from facechain.protocols import Identity
from facechain.types import Face, Pose, Shot, Style

STYLE = Style(id="test", title="test", licence="none")


def faces(*sizes_px: float) -> tuple[Face, ...]:
    """Side by side, 40 px apart."""
    return tuple(
        Face(
            box_px=np.array([40 * at, 0, 40 * at + size, size], np.float32),
            points_px=np.zeros((5, 2), np.float32),
            score=1.0,
            pose=Pose(yaw_deg=0, pitch_deg=0, roll_deg=0),
        )
        for at, size in enumerate(sizes_px)
    )


# ── who goes where ───────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 6), st.data())
def test_people_get_the_faces_they_asked_for_and_never_share_one(count, data):
    places = data.draw(st.permutations(range(count)))[: data.draw(st.integers(1, count))]
    names = [f"person {at}" for at in range(len(places))]
    assert assign(faces(*[10] * count), names, places) == tuple(places)


def test_left_to_right_unless_told_otherwise():
    assert assign(faces(10, 30, 20), ["Ada", "Bo"], ()) == (0, 1)
    assert assign(faces(10, 30, 20), ["Ada", "Bo"], (2, 0)) == (2, 0)


def test_one_person_alone_gets_the_largest_face():
    assert assign(faces(10, 30, 20), ["Ada"], ()) == (1,)


@pytest.mark.parametrize(
    ("sizes", "people", "slots", "message"),
    [
        ((), ["Ada"], (), "no face"),
        ((10,), ["Ada", "Bo"], (), "1 face for 2 people"),
        ((10, 10), ["Ada"], (2,), "no face 3"),
        ((10, 10), ["Ada"], (-1,), "no face 0"),
        ((10, 10), ["Ada", "Bo"], (0,), "1 face number for 2 people"),
        ((10, 10), ["Ada", "Bo"], (1, 1), "same face"),
    ],
)
def test_what_cannot_be_is_said(sizes, people, slots, message):
    with pytest.raises(TemplateError, match=message) as caught:
        assign(faces(*sizes), people, slots)
    assert caught.value.next_step


# ── painting ─────────────────────────────────────────────────────────────────────────────────────


class Marker:
    """Paints an identity's number and the shot's seed into the face meant; remembers who was loaded when."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.present: set[str] = set()
        self.most_present = 0

    @contextmanager
    def sitting(self, identity, style):
        self.loaded.append(identity.person)
        self.present.add(identity.person)
        self.most_present = max(self.most_present, len(self.present))

        def brush(shot, onto=None):
            pixels = np.zeros((4, 4, 3), np.uint8) if onto is None else onto.pixels.copy()
            left, top, right, bottom = (0, 0, 4, 4) if onto is None else onto.faces[onto.slot].box_px.astype(int)
            pixels[top:bottom, left:right] = (identity.data, shot.seed, 0)
            return pixels

        try:
            yield brush
        finally:
            self.present.remove(identity.person)


def identity(name: str, number: int) -> Identity:
    return Identity(person=name, engine="marker", digest=name, data=number)


def shots(count: int) -> list[Shot]:
    return [
        Shot(index=at, seed=at + 1, prompt="", negative="", width_px=4, height_px=4, options={}) for at in range(count)
    ]


ADA, BO = identity("Ada", 100), identity("Bo", 200)


def test_everybody_is_painted_and_unassigned_faces_stay():
    template = np.random.default_rng(0).integers(0, 256, (20, 120, 3), np.uint8)
    found = faces(10, 10, 10)
    engine = Marker()
    made = list(paint(engine, [ADA, BO], STYLE, shots(CHUNK + 3), template, found, (2, 0)))
    assert [shot.index for shot, _ in made] == list(range(CHUNK + 3))
    for shot, pixels in made:
        assert (pixels[:10, 80:90] == (100, shot.seed, 0)).all()
        assert (pixels[:10, :10] == (200, shot.seed, 0)).all()
        rest = np.ones(template.shape[:2], bool)
        rest[:10, 80:90] = rest[:10, :10] = False
        np.testing.assert_array_equal(pixels[rest], template[rest])
    assert engine.loaded == ["Ada", "Bo", "Ada", "Bo"]


def test_one_identity_is_present_at_a_time_and_none_afterwards():
    engine = Marker()
    pictures = paint(engine, [ADA, BO], STYLE, shots(3), np.zeros((20, 120, 3), np.uint8), faces(10, 10), (0, 1))
    next(pictures)
    assert engine.present == {"Bo"}
    pictures.close()  # somebody stopped half-way
    assert engine.present == set()
    assert engine.most_present == 1


def test_a_picture_does_not_depend_on_its_companions():
    template, found = np.zeros((20, 120, 3), np.uint8), faces(10, 10)
    together = [pixels for _, pixels in paint(Marker(), [ADA, BO], STYLE, shots(3), template, found, (0, 1))]
    alone = [next(paint(Marker(), [ADA, BO], STYLE, [shot], template, found, (0, 1)))[1] for shot in shots(3)]
    np.testing.assert_array_equal(together, alone)


def test_without_a_template_the_engine_paints_freely():
    [(_, pixels)] = paint(Marker(), [ADA], STYLE, shots(1), None, (), ())
    assert (pixels == (100, 1, 0)).all()


# ── finishing ────────────────────────────────────────────────────────────────────────────────────


class Adder:
    def __init__(self, name: str, factor: int, amount: int) -> None:
        self.name, self._factor, self._amount = name, factor, amount

    def finish(self, pixels):
        return (pixels * self._factor + self._amount).astype(np.uint8)


def test_finishers_run_in_order_and_the_picture_before_is_kept():
    painted = np.full((2, 2, 3), 5, np.uint8)
    finished, before = finish(painted, [Adder("twice", 2, 0), Adder("and one", 1, 1)])
    assert (finished == 11).all()
    assert before is painted
    assert (painted == 5).all()


def test_nothing_to_finish():
    painted = np.zeros((2, 2, 3), np.uint8)
    finished, before = finish(painted, [])
    assert finished is painted
    assert before is None
