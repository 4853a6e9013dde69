"""Landmarks, parts, mattes and the guard, on real pictures."""

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from facechain.types import Face, Part, Pose
from facechain.vision.landmarker import _EXPRESSION_POINTS, EXPRESSIONS
from facechain.vision.parser import _refined
from facechain.vision.readers import GUARDS, LANDMARKERS, MATTERS, PARSERS, READERS
from facechain.vision.runtimes import LiteModel

# MediaPipe's numbers of a few landmarks
LEFT_EYE, RIGHT_EYE, NOSE_TIP, CHIN, FOREHEAD, MOUTH_LEFT, MOUTH_RIGHT = 33, 263, 1, 152, 10, 61, 291
MIRRORED = {33: 263, 263: 33, 61: 291, 291: 61, 133: 362, 362: 133, 1: 1, 152: 152, 10: 10, 168: 168}


@pytest.fixture(scope="module")
def where(models):
    return lambda pack, file: models / pack / file


@pytest.fixture(scope="module")
def photos(models):
    paths = [*sorted((models / "demo-photos").glob("*.jpg")), models / "astronaut" / "astronaut.png"]
    return {path.stem: np.array(Image.open(path).convert("RGB")) for path in paths if "partial" not in path.stem}


@pytest.fixture(scope="module")
def faces(where, photos):
    reader = READERS["yunet_sface"](where)
    return {name: reader.detect(pixels)[0] for name, pixels in photos.items()}


@pytest.fixture(scope="module", params=LANDMARKERS)
def landmarker(request, where):
    return LANDMARKERS[request.param](where)


@pytest.fixture(scope="module", params=PARSERS)
def parser(request, where):
    return PARSERS[request.param](where)


@pytest.fixture(scope="module", params=MATTERS)
def matter(request, where):
    return MATTERS[request.param](where)


@pytest.fixture(scope="module", params=GUARDS)
def guard(request, where):
    return GUARDS[request.param](where)


def mirrored(pixels, face):
    """The picture and its face, left and right swapped."""
    last = pixels.shape[1] - 1
    points = face.points_px[[1, 0, 2, 4, 3]] * (-1, 1) + (last, 0)
    left, top, right, bottom = face.box_px
    box = np.array([last - right, top, last - left, bottom], np.float32)
    pose = Pose(yaw_deg=-face.pose.yaw_deg, pitch_deg=face.pose.pitch_deg, roll_deg=-face.pose.roll_deg)
    return pixels[:, ::-1].copy(), Face(box_px=box, points_px=points.astype(np.float32), score=face.score, pose=pose)


# ── landmarks ────────────────────────────────────────────────────────────────────────────────────


def test_landmarks_lie_where_the_detector_saw_the_face(landmarker, photos, faces):
    for name, pixels in photos.items():
        face = faces[name]
        mesh = landmarker.mesh(pixels, face)
        assert mesh.points_px.shape == (478, 3)
        assert mesh.score > 0.9
        pupils = mesh.points_px[[468, 473], :2]
        eyes = np.linalg.norm(face.points_px[1] - face.points_px[0])
        np.testing.assert_allclose(pupils, face.points_px[:2], atol=0.12 * eyes)
        mouth = mesh.points_px[[MOUTH_LEFT, MOUTH_RIGHT], :2]
        np.testing.assert_allclose(mouth, face.points_px[3:], atol=0.2 * eyes)
        assert mesh.points_px[NOSE_TIP, 2] < mesh.points_px[[LEFT_EYE, RIGHT_EYE], 2].min()  # nearer


def test_landmarks_hardly_depend_on_the_box_they_started_from(landmarker, photos, faces):
    pixels, face = photos["obama3"], faces["obama3"]
    width, height = face.width_px, face.height_px
    shifted = Face(
        box_px=face.box_px + np.array([-0.1 * width, -0.1 * height, 0.15 * width, 0.1 * height], np.float32),
        points_px=face.points_px,
        score=face.score,
        pose=face.pose,
    )
    a, b = landmarker.mesh(pixels, face), landmarker.mesh(pixels, shifted)
    eyes = np.linalg.norm(a.points_px[RIGHT_EYE] - a.points_px[LEFT_EYE])
    assert np.linalg.norm(a.points_px - b.points_px, axis=1).mean() < 0.02 * eyes


def test_mirroring_mirrors_landmarks_and_pose(landmarker, photos, faces):
    for name, pixels in photos.items():
        mesh = landmarker.mesh(pixels, faces[name])
        other = landmarker.mesh(*mirrored(pixels, faces[name]))
        eyes = np.linalg.norm(mesh.points_px[RIGHT_EYE, :2] - mesh.points_px[LEFT_EYE, :2])
        expected = mesh.points_px[list(MIRRORED.values()), :2] * (-1, 1) + (pixels.shape[1] - 1, 0)
        apart = np.linalg.norm(other.points_px[list(MIRRORED), :2] - expected, axis=1) / eyes
        assert apart.mean() < 0.02, name
        assert other.pose.yaw_deg == pytest.approx(-mesh.pose.yaw_deg, abs=3), name
        assert other.pose.roll_deg == pytest.approx(-mesh.pose.roll_deg, abs=3), name
        assert other.pose.pitch_deg == pytest.approx(mesh.pose.pitch_deg, abs=3), name


def test_turning_the_picture_turns_the_roll_alone(landmarker, where, photos):
    upright = Image.fromarray(photos["obama"])
    reader = READERS["yunet_sface"](where)
    poses = {}
    for clockwise in (-25, 0, 25):
        pixels = np.array(upright.rotate(-clockwise, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)))
        poses[clockwise] = landmarker.mesh(pixels, reader.detect(pixels)[0]).pose
    for clockwise, pose in poses.items():
        assert pose.roll_deg - poses[0].roll_deg == pytest.approx(clockwise, abs=2)
        assert pose.yaw_deg == pytest.approx(poses[0].yaw_deg, abs=4)
        assert pose.pitch_deg == pytest.approx(poses[0].pitch_deg, abs=4)


def test_yaw_points_to_where_the_face_turns(landmarker, photos, faces):
    assert landmarker.mesh(photos["obama2"], faces["obama2"]).pose.yaw_deg < -8
    assert landmarker.mesh(photos["obama3"], faces["obama3"]).pose.yaw_deg > 8


def test_expressions_name_52_shares(landmarker, photos, faces):
    assert len(EXPRESSIONS) == len(set(EXPRESSIONS)) == 52
    assert len(_EXPRESSION_POINTS) == len(set(_EXPRESSION_POINTS.tolist())) == 146
    smiling = landmarker.mesh(photos["obama"], faces["obama"]).expressions
    earnest = landmarker.mesh(photos["biden"], faces["biden"]).expressions
    assert set(smiling) == set(EXPRESSIONS)
    assert all(0 <= value <= 1 for value in (*smiling.values(), *earnest.values()))
    assert smiling["mouthSmileLeft"] > 0.7
    assert earnest["mouthSmileLeft"] < 0.3
    speaking = landmarker.mesh(photos["obama2"], faces["obama2"]).expressions
    assert speaking["jawOpen"] > earnest["jawOpen"] + 0.1


def test_loading_a_model_prints_nothing(models, capfd):
    LiteModel((models / "parser" / "selfie_multiclass_256x256.tflite").read_bytes())
    print("still heard", file=sys.stderr)
    assert capfd.readouterr().err == "still heard\n"


def test_where_no_face_is_there_is_no_mesh(landmarker, faces):
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (600, 600, 3), np.uint8)
    assert landmarker.mesh(noise, faces["astronaut"]) is None


def test_threads_may_share_a_landmarker(landmarker, photos, faces):
    names = list(photos) * 3
    alone = [landmarker.mesh(photos[name], faces[name]).points_px for name in names]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda name: landmarker.mesh(photos[name], faces[name]).points_px, names))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


# ── parts ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("near", [False, True])
def test_parts_fill_the_picture_and_sum_to_one(parser, photos, faces, near):
    for name in ("astronaut", "obama2"):
        pixels = photos[name]
        masks = parser.parts(pixels, faces[name] if near else None).masks
        assert set(masks) == set(Part)
        for mask in masks.values():
            assert mask.shape == pixels.shape[:2]
            assert mask.dtype == np.float32
            assert mask.min() >= 0
        np.testing.assert_allclose(np.sum(list(masks.values()), 0), 1, atol=1e-4)


def test_parts_lie_where_they_belong(parser, photos, faces):
    for name, pixels in photos.items():
        face = faces[name]
        masks = parser.parts(pixels, face).masks
        left, top, right, bottom = face.box_px
        cheeks = face.points_px[:2] * (0.4, 0.4) + face.points_px[3:] * (0.6, 0.6)
        for x, y in (*cheeks, face.points_px[2]):
            assert masks[Part.FACE_SKIN][round(y), round(x)] > 0.9, name
        beside = round(float(face.points_px[0, 1])), max(2, round(left - face.width_px))
        assert masks[Part.BACKGROUND][beside] > 0.9, name
        chest = min(pixels.shape[0] - 1, round(bottom + 0.9 * face.height_px)), round((left + right) / 2)
        assert masks[Part.CLOTHES][chest] > 0.6, name
    hair = parser.parts(photos["astronaut"], faces["astronaut"]).masks[Part.HAIR]
    left, top, right, _ = faces["astronaut"].box_px
    assert hair[round(top - 12), round((left + right) / 2)] > 0.9


def test_edges_of_parts_are_drawn_to_those_of_the_picture():
    """A coarse, misplaced mask of a disc is pulled onto the disc, through a noisy picture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:768, :768]
    disc = np.hypot(x - 380, y - 390) < 220
    pixels = np.where(disc[..., None], (190, 150, 120), (40, 70, 50)) + rng.normal(0, 6, (768, 768, 3))
    coarse = cv2.GaussianBlur(np.roll(disc, 3, axis=1).astype(np.float32), (0, 0), 4)
    probabilities = np.zeros((256, 256, 6), np.float32)
    probabilities[..., 1] = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_AREA)
    probabilities[..., 0] = 1 - probabilities[..., 1]
    background, hair, *others = _refined(pixels.clip(0, 255).astype(np.uint8), probabilities)
    assert ((hair > 0.5) != disc).sum() < 0.2 * ((coarse > 0.5) != disc).sum()
    assert np.abs(np.diff(hair[390])).max() > 3 * np.abs(np.diff(coarse[390])).max()  # steep at the rim
    np.testing.assert_allclose(background + hair, 1, atol=1e-3)
    assert max(other.max() for other in others) < 1e-3


def test_without_the_face_far_pixels_are_the_same(parser, photos, faces):
    """The close look changes the surroundings of the head only."""
    pixels = photos["biden"]
    whole, near = parser.parts(pixels).masks, parser.parts(pixels, faces["biden"]).masks
    below = round(faces["biden"].box_px[3] + 2.5 * faces["biden"].height_px)
    for part in Part:
        np.testing.assert_allclose(whole[part][below:], near[part][below:], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (300, 3), (64, 64)])
def test_odd_pictures_can_be_parted_and_matted(parser, matter, guard, size):
    pixels = np.full((*size, 3), 90, np.uint8)
    np.testing.assert_allclose(np.sum(list(parser.parts(pixels).masks.values()), 0), 1, atol=1e-4)
    assert matter.matte(pixels).shape == size
    assert 0 <= guard.unsafe(pixels) <= 1


# ── mattes and the guard ─────────────────────────────────────────────────────────────────────────


def test_the_matte_holds_the_person(matter, photos, faces):
    for name in ("astronaut", "obama"):
        alpha = matter.matte(photos[name])
        assert alpha.shape == photos[name].shape[:2]
        assert alpha.dtype == np.float32
        assert 0 <= alpha.min() <= alpha.max() <= 1
        left, top, right, bottom = faces[name].box_px.astype(int)
        assert alpha[top:bottom, left:right].mean() > 0.93
        assert alpha[:20, :20].mean() < 0.05


def test_mattes_and_parts_agree(matter, parser, photos, faces):
    person = 1 - parser.parts(photos["obama"], faces["obama"]).masks[Part.BACKGROUND] > 0.5
    alpha = matter.matte(photos["obama"]) > 0.5
    assert (person & alpha).sum() / (person | alpha).sum() > 0.95


def test_portraits_are_safe(guard, photos):
    for name, pixels in photos.items():
        assert guard.unsafe(pixels) < 0.1, name
