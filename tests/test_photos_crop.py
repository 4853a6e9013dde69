"""Framing promises, for any face anywhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.errors import ConfigError
from facechain.photos.crop import PORTRAIT, Framing, cut, face_in_crop, head_mask, inside, place
from facechain.types import Face, Part, Parts, Pose

UPRIGHT = np.array([[-0.2, -0.12], [0.2, -0.12], [0.0, 0.05], [-0.16, 0.22], [0.16, 0.22]])


def a_face(x: float, y: float, size: float, roll_deg: float) -> Face:
    roll = math.radians(roll_deg)
    turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    half = np.array([0.38, 0.5]) * size
    return Face(
        box_px=np.array([x - half[0], y - half[1], x + half[0], y + half[1]], np.float32),
        points_px=((UPRIGHT * size) @ turn.T + (x, y)).astype(np.float32),
        score=0.9,
        pose=Pose(yaw_deg=0, pitch_deg=0, roll_deg=roll_deg),
    )


faces = st.builds(a_face, st.floats(-200, 4000), st.floats(-200, 4000), st.floats(12, 3000), st.floats(-179, 179))
framings = st.builds(
    Framing,
    face_share=st.floats(0.1, 0.9),
    centre_down=st.floats(0.2, 0.8),
    side_px=st.integers(64, 1024),
    max_enlarge=st.floats(0.5, 4),
)


@given(faces, framings, st.lists(st.tuples(st.floats(-500, 4500), st.floats(-500, 4500)), min_size=1, max_size=8))
def test_points_map_into_the_crop_and_back(face, framing, points):
    placing = place(face, framing)
    points = np.array(points, np.float32)
    assert placing.undo(placing.apply(points)) == pytest.approx(points, abs=0.05 + 2e-3 / placing.zoom)


@given(faces, framings)
def test_the_face_lands_where_the_framing_says(face, framing):
    placing = place(face, framing)
    seen = face_in_crop(face, placing)
    side = placing.side_px
    assert 32 <= side <= framing.side_px
    centre = (seen.box_px[:2] + seen.box_px[2:]) / 2
    assert centre == pytest.approx((side / 2, side * framing.centre_down), abs=0.02 * side)
    assert max(seen.width_px, seen.height_px) == pytest.approx(side * framing.face_share, rel=0.01)
    if side > 32:  # the smallest crop there is
        assert placing.zoom <= framing.max_enlarge * 1.05


@given(faces)
def test_every_face_ends_upright(face):
    seen = face_in_crop(face, place(face)).points_px
    across = seen[1] - seen[0]
    assert math.degrees(math.atan2(across[1], across[0])) == pytest.approx(0, abs=0.5)
    assert seen[3:, 1].mean() > seen[:2, 1].mean()
    assert abs(face_in_crop(face, place(face)).pose.roll_deg) < 0.5


def test_facechains_numbers():
    seen = face_in_crop(face := a_face(500, 400, 200, 15), place(face))
    assert max(seen.height_px, seen.width_px) / 512 == pytest.approx(0.304, abs=0.001)
    assert seen.box_px[[1, 3]].mean() / 512 == pytest.approx(0.435, abs=0.001)


def test_small_faces_are_not_blown_up():
    assert place(a_face(100, 100, 50, 0)).side_px == pytest.approx(2 * 50 / 0.3043, abs=1)
    assert place(a_face(100, 100, 500, 0)).side_px == 512


def test_pixels_follow_the_points_and_missing_area_is_filled():
    pixels = np.zeros((400, 300, 3), np.uint8)
    face = a_face(150, 150, 120, 25)
    left_eye = np.round(face.points_px[0]).astype(int)
    pixels[left_eye[1] - 4 : left_eye[1] + 5, left_eye[0] - 4 : left_eye[0] + 5] = (0, 200, 0)
    placing = place(face)
    crop = cut(pixels, placing)
    x, y = np.round(placing.apply(face.points_px)[0]).astype(int)
    assert crop[y, x].tolist() == pytest.approx([0, 200, 0], abs=10)
    shown = inside(pixels.shape, placing)
    assert crop[shown < 0.01].mean() > PORTRAIT.fill - 0.5
    assert 0.2 < shown.mean() < 1


def test_shrinking_does_not_alias():
    grid = np.indices((2000, 2000)).sum(0) % 2 * 255
    pixels = np.repeat(grid[..., None], 3, 2).astype(np.uint8)
    crop = cut(pixels, place(a_face(1000, 1000, 1300, 3), Framing(side_px=128, face_share=0.8)))
    assert crop[40:80, 40:80].std() < 12


@pytest.mark.parametrize("wrong", [{"face_share": 0}, {"centre_down": 1.0}, {"side_px": 1}, {"fill": 300}])
def test_senseless_framings_are_refused(wrong):
    with pytest.raises(ConfigError):
        Framing(**wrong)


def test_the_head_mask_takes_one_head_and_leaves_clothes_and_neighbours():
    masks = {part: np.zeros((200, 200), np.float32) for part in Part}
    masks[Part.FACE_SKIN][60:110, 80:120] = 1
    masks[Part.HAIR][40:60, 75:125] = 1
    masks[Part.OTHER][70:76, 78:122] = 1  # glasses
    masks[Part.FACE_SKIN][70:76, 78:122] = 0
    masks[Part.OTHER][150:160, 90:110] = 1  # a brooch
    masks[Part.CLOTHES][120:, :] = 1
    masks[Part.FACE_SKIN][60:110, 160:190] = 1  # a neighbour
    mask = head_mask(Parts(masks=masks), a_face(100, 85, 52, 0))
    assert mask[85, 100] == mask[50, 100] == mask[73, 100] == 1
    assert mask[155, 100] == mask[180, 20] == mask[85, 175] == 0
