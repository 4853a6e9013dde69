"""Alignment and pose are geometry: they must equal published numbers and undo what was done."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.vision.align import TEMPLATE_112, norm_crop, norm_crop_matrix, similarity, template
from facechain.vision.pose import FIVE_POINTS_MM, angles, five_point_pose, rotation_between

A = [(200, 220), (300, 218), (251, 280), (210, 330), (292, 328)]
B = [(120.5, 90.25), (160.75, 110.5), (130, 125.75), (105.25, 135.5), (140.5, 152.75)]
C = [(10, 10), (16, 10), (13, 14), (11, 17), (15, 17)]

# insightface 1.0.1, estimate_norm
PUBLISHED = [
    (A, 112, [[0.36267, -0.00311, -34.0032], [0.00311, 0.36267, -28.68602]]),
    (A, 224, [[0.72534, -0.00622, -68.00641], [0.00622, 0.72534, -57.37204]]),
    (A, 256, [[0.72534, -0.00622, -52.00641], [0.00622, 0.72534, -57.37204]]),
    (B, 112, [[0.74395, 0.33454, -82.86012], [-0.33454, 0.74395, 24.39053]]),
    (C, 112, [[5.96798, 0.03314, -22.00827], [-0.03314, 5.96798, -8.83304]]),
]

turns = st.floats(-np.pi, np.pi)
scales = st.floats(0.01, 100)
shifts = st.floats(-1000, 1000)
degrees = st.floats(-60, 60)


def moved(points, scale, turn, x, y):
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return points @ matrix.T + (x, y), np.hstack([matrix, [[x], [y]]])


@pytest.mark.parametrize(("points", "size", "matrix"), PUBLISHED)
def test_alignment_equals_the_published_matrices(points, size, matrix):
    np.testing.assert_allclose(norm_crop_matrix(np.array(points, np.float32), size), matrix, atol=1e-4)


def test_many_faces_are_aligned_at_once():
    points = np.array([A, B, C], np.float32)
    together = norm_crop_matrix(points)
    assert together.shape == (3, 2, 3)
    for face, matrix in zip(points, together, strict=True):
        np.testing.assert_allclose(norm_crop_matrix(face), matrix)


@given(turns, scales, shifts, shifts)
def test_a_similarity_is_recovered(turn, scale, x, y):
    seen, truth = moved(TEMPLATE_112, scale, turn, x, y)
    np.testing.assert_allclose(similarity(TEMPLATE_112, seen), truth, rtol=1e-6, atol=1e-6 * scale + 1e-7)


@given(turns, scales, shifts, shifts, st.integers(0, 2**32 - 1))
def test_no_other_similarity_fits_better(turn, scale, x, y, seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    best = similarity(source, target)

    def error(matrix):
        return ((source @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum()

    _, other = moved(source, scale, turn, x, y)
    assert error(best) <= error(other) + 1e-9


@given(st.sampled_from([112, 128, 224, 256, 512]))
def test_the_template_lies_in_the_chip(size):
    assert (template(size) > 0).all()
    assert (template(size) < size).all()


def test_the_crop_puts_the_points_where_the_template_has_them():
    points, _ = moved(TEMPLATE_112, 3.0, 0.3, 200.0, 90.0)
    pixels = np.zeros((700, 700, 3), np.uint8)
    for x, y in points:
        pixels[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4] = 255
    chip = norm_crop(pixels, points.astype(np.float32))
    assert chip.shape == (112, 112, 3)
    assert chip.dtype == np.uint8
    for x, y in TEMPLATE_112:
        assert chip[round(y), round(x)].min() > 200
    assert chip.mean() < 10


def turned(yaw, pitch, roll):
    """Rotation of a head whose frame is x right, y down, z away: rolled, then pitched, then yawed."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    return about_y @ about_x @ about_z


@given(degrees, degrees, degrees)
def test_pose_angles_are_those_the_head_was_turned_by(yaw, pitch, roll):
    pose = angles(turned(yaw, pitch, roll))
    np.testing.assert_allclose([pose.yaw_deg, pose.pitch_deg, pose.roll_deg], [yaw, pitch, roll], atol=1e-6)


@given(degrees, degrees, degrees, st.floats(0.1, 10))
def test_five_points_of_an_average_head_tell_its_pose(yaw, pitch, roll, scale):
    points = (scale * FIVE_POINTS_MM @ turned(yaw, pitch, roll).T)[:, :2] + 300
    pose = five_point_pose(points)
    np.testing.assert_allclose([pose.yaw_deg, pose.pitch_deg, pose.roll_deg], [yaw, pitch, roll], atol=0.01)


@given(degrees, degrees, degrees)
def test_mirroring_turns_yaw_and_roll_around(yaw, pitch, roll):
    points = (FIVE_POINTS_MM @ turned(yaw, pitch, roll).T)[:, :2]
    mirrored = (points * (-1, 1))[[1, 0, 2, 4, 3]]
    pose, other = five_point_pose(points), five_point_pose(mirrored)
    np.testing.assert_allclose(
        [other.yaw_deg, other.pitch_deg, other.roll_deg], [-pose.yaw_deg, pose.pitch_deg, -pose.roll_deg], atol=0.01
    )


def test_signs_of_the_pose_are_those_promised():
    """The nose moves to where the face turns; a head leaning clockwise has its right eye lower."""
    still = (FIVE_POINTS_MM[:, :2] + 100).astype(np.float32)
    to_the_right, up, leaning = still.copy(), still.copy(), still.copy()
    to_the_right[2, 0] += 8
    up[2, 1] -= 8
    leaning[1, 1] += 8
    assert five_point_pose(to_the_right).yaw_deg > 5
    assert five_point_pose(up).pitch_deg > 5
    assert five_point_pose(leaning).roll_deg > 1


@given(degrees, degrees, degrees, scales, st.integers(0, 2**32 - 1))
def test_a_rotation_between_two_clouds_is_recovered(yaw, pitch, roll, scale, seed):
    rng = np.random.default_rng(seed)
    cloud, weights = rng.normal(size=(20, 3)), rng.uniform(0.1, 1, 20)
    rotation = turned(yaw, pitch, roll)
    found = rotation_between(cloud, scale * cloud @ rotation.T + 7, weights)
    np.testing.assert_allclose(found, rotation, atol=1e-6)
