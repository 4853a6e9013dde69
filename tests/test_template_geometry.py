"""The template engine's geometry, on numbers alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.engines.template import blend, light, shape, warp

SEEDS = st.integers(0, 2**32 - 1)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


@given(SEEDS)
@settings(max_examples=50, deadline=None)
def test_similarity_finds_the_motion_that_was_made(seed):
    rng = np.random.default_rng(seed)
    points, rotation = rng.standard_normal((40, 3)), _rotation(rng)
    scale, shift = rng.uniform(0.2, 5), rng.uniform(-50, 50, 3)
    got_scale, got_rotation, got_shift = shape.similarity(points, scale * points @ rotation.T + shift)
    assert got_scale == pytest.approx(scale)
    np.testing.assert_allclose(got_rotation, rotation, atol=1e-8)
    np.testing.assert_allclose(got_shift, shift, atol=1e-6)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_head_merely_moved_lands_on_the_template(seed):
    rng = np.random.default_rng(seed)
    template = rng.standard_normal((478, 3)) * 50 + 200
    moved = 1.7 * template @ _rotation(rng).T + rng.uniform(-30, 30, 3)
    np.testing.assert_allclose(shape.posed(moved, template, 1.0), template, atol=1e-2)


def test_shape_zero_keeps_the_templates_points():
    rng = np.random.default_rng(0)
    source, template = rng.standard_normal((2, 478, 3)).astype(np.float32)
    np.testing.assert_allclose(shape.posed(source, template, 0.0), template, atol=1e-6)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_mesh_interpolates_linear_values_exactly(seed):
    rng = np.random.default_rng(seed)
    corners = np.array([[5.0, 5], [60, 8], [55, 50], [8, 58]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    matrix, shift = rng.uniform(-2, 2, (2, 2)), rng.uniform(-10, 10, 2)
    drawn, (values,) = warp.triangle_map((64, 64), corners, triangles, [corners @ matrix.T + shift], np.zeros(4))
    ys, xs = np.nonzero(drawn)
    inner = (xs > 12) & (xs < 50) & (ys > 12) & (ys < 48)
    expected = np.stack([xs, ys], 1) @ matrix.T + shift
    error = np.abs(values[ys, xs][inner] - expected[inner]).max(1)
    assert np.quantile(error, 0.95) < 1e-3
    assert error.max() <= np.abs(matrix).sum(1).max()  # on the seam a pixel may be read from its neighbour


def test_the_nearer_triangle_covers_the_farther():
    corners = np.array([[2.0, 2], [30, 2], [2, 30], [2, 2], [30, 2], [2, 30]])
    depth = np.array([5.0, 5, 5, -5, -5, -5])
    value = np.array([[1.0]] * 3 + [[2.0]] * 3)
    triangles = np.array([[3, 4, 5], [0, 1, 2]], np.int32)
    drawn, (values,) = warp.triangle_map((32, 32), corners, triangles, [value], depth)
    assert set(values[drawn].ravel()) == {2.0}


@given(SEEDS, st.integers(60, 160), st.integers(60, 160))
@settings(max_examples=15, deadline=None)
def test_surroundings_follow_the_face_and_rest_at_the_border(seed, height, width):
    rng = np.random.default_rng(seed)
    inside = np.zeros((height, width), bool)
    inside[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
    push = rng.uniform(-8, 8, 2)
    field = warp.follow(inside, np.broadcast_to(push, (height, width, 2)).astype(np.float32), 30)
    assert not field[[0, -1]].any()
    assert not field[:, [0, -1]].any()
    np.testing.assert_allclose(field[height // 2, width // 2], push, atol=0.3)
    assert np.abs(field).max() <= np.abs(push).max() * 1.15


def test_blending_with_an_empty_mask_returns_the_picture():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 255, (2, 70, 90, 3)).astype(np.float32)
    np.testing.assert_allclose(blend.bands(a, b, np.zeros((70, 90), np.float32), 4), b, atol=1e-2)
    np.testing.assert_allclose(blend.bands(a, b, np.ones((70, 90), np.float32), 4), a, atol=1e-2)


@given(st.integers(0, 255))
def test_light_is_measured_linearly_and_back(level):
    grey = np.full((1, 1, 3), level, np.uint8)
    back = light.to_srgb(light.to_linear(grey))
    assert abs(float(back[0, 0, 0]) - level) <= (0.6 if level < 235 else 12)  # highlights roll off


def test_a_darker_light_darkens_the_face_and_keeps_its_relief():
    rng = np.random.default_rng(2)
    person = np.clip(0.5 + 0.02 * rng.standard_normal((80, 80, 3)), 0, 1).astype(np.float32)
    template = np.full_like(person, 0.2)
    none = np.zeros((80, 80), np.float32)
    lit = light.relit(person, template, skin=none + 1, lips=none, features=none, face_px=80, local=0.75)
    assert lit.mean() == pytest.approx(0.2, abs=0.01)
    assert np.corrcoef(lit.mean(2).ravel(), person.mean(2).ravel())[0, 1] > 0.95


def test_a_hand_is_in_front_and_the_neck_is_not():
    from facechain.engines.template.front import in_front
    from facechain.types import Part, Parts

    rows, cols = np.mgrid[:200, :200]
    outline = (rows - 90) ** 2 / 70**2 + (cols - 100) ** 2 / 50**2 < 1
    skin = np.zeros((200, 200), np.float32)
    skin[155:, 70:130] = 1  # the neck begins at the chin
    parts = Parts(masks={part: np.zeros((200, 200), np.float32) for part in Part} | {Part.BODY_SKIN: skin})
    assert in_front(parts, outline, 120.0)[:150].max() == 0
    hand = skin.copy()
    hand[90:110, 20:90] = 1  # comes in from the side
    front = in_front(Parts(masks={**parts.masks, Part.BODY_SKIN: hand}), outline, 120.0)
    assert front[90:110, 40:90].min() == 1, "the hand, and what of it is beyond the face"
    assert front[:80].max() == 0
