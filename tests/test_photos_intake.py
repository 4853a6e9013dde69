"""Real photos, and spoilt versions of them: accepted, or refused for the right reason."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facechain.errors import Cancelled
from facechain.photos.intake import Tools, intake
from facechain.photos.quality import ADVICE, LIMITS
from facechain.photos.read import read
from facechain.photos.tags import AGE_BANDS, TRAITS
from facechain.types import Photo, Reason


@pytest.fixture(scope="module")
def tools(models) -> Tools:
    from facechain.vision.landmarker import Landmarker
    from facechain.vision.parser import SelfieParser
    from facechain.vision.yunet_sface import YunetSface

    return Tools(
        reader=YunetSface(
            models / "yunet" / "face_detection_yunet_2023mar.onnx",
            models / "sface" / "face_recognition_sface_2021dec.onnx",
        ),
        landmarker=Landmarker(models / "landmarker" / "face_landmarker.task"),
        parser=SelfieParser(models / "parser" / "selfie_multiclass_256x256.tflite"),
    )


@pytest.fixture(scope="module")
def quick(tools) -> Tools:
    return replace(tools, parser=None)


def demo(models: Path, *names: str) -> list[Path]:
    return [models / "demo-photos" / f"{name}.jpg" for name in names]


def spoilt(photo: Photo, pixels: np.ndarray, name: str) -> Photo:
    return Photo(id=name, name=name, pixels=np.ascontiguousarray(pixels, dtype=np.uint8))


def reasons(result) -> dict[str, Reason]:
    return {rejection.photo_name: rejection.reason for rejection in result.rejections}


# ── originals ────────────────────────────────────────────────────────────────────────────────────


def test_the_demo_photos(models, tools):
    paths = demo(models, "obama", "obama2", "obama3", "obama_partial_face", "biden")
    result = intake(paths, tools)
    assert [crop.photo_name for crop in result.crops] == ["obama.jpg", "obama2.jpg", "obama3.jpg"]
    assert reasons(result) == {"obama_partial_face.jpg": Reason.COVERED, "biden.jpg": Reason.SOMEONE_ELSE}
    for crop in result.crops:
        side = crop.pixels.shape[0]
        assert crop.pixels.shape == (side, side, 3)
        assert crop.head_mask.shape == (side, side)
        assert 0.02 < crop.head_mask.mean() < 0.25
        assert crop.photo_px is not None
        left = int(crop.photo_px[0, 0])
        if left > 3:
            assert (crop.pixels[side // 2, : left - 2] == 255).all(), "past the photo's edge the crop is filled"
        x, y = crop.face.points_px[2].astype(int)
        assert crop.head_mask[y, x] > 0.9
        assert crop.face.embedding is not None
        assert 0.8 < crop.quality <= 1
        assert [tag.name for tag in crop.tags] == list(TRAITS)
        assert "short hair" in crop.caption
    assert "smiling" in result.crops[0].caption
    assert "turned slightly left" in result.crops[1].caption
    assert "turned slightly right" in result.crops[2].caption


def test_press_photos_pass_and_only_repeated_ones_are_dropped(models, quick):
    for person in sorted((models / "johns").glob("John_*")):
        result = intake(sorted(person.glob("*.jpg")), quick)
        assert set(reasons(result).values()) <= {Reason.DUPLICATE}, person.name
        assert len(result.crops) >= 9


def test_age_is_told_only_when_clear(models, quick):
    from facechain.vision.age import AgeNet

    if not (models / "age").is_dir():
        pytest.skip("the age pack is optional")
    aged = replace(quick, ages=AgeNet(models / "age" / "age-v1.onnx"))
    crops = intake([*demo(models, "obama", "obama2", "obama3")], aged).crops
    assert all(crop.tags[0].value == "adult" for crop in crops)
    assert list(AGE_BANDS) == ["child", "teen", "adult", "senior"]


# ── spoilt ───────────────────────────────────────────────────────────────────────────────────────

NAMES = ["obama", "obama3", "biden"]


def face_of(tools: Tools, photo: Photo):
    return tools.reader.detect(photo.pixels)[0]


def only(photo: Photo, tools: Tools) -> Reason | None:
    result = intake([photo], tools)
    assert len(result.crops) + len(result.rejections) == 1
    return result.rejections[0].reason if result.rejections else None


@pytest.mark.parametrize("name", NAMES)
def test_blurred_dark_bright_and_small(models, quick, name):
    photo = read(demo(models, name)[0])
    pixels, face = photo.pixels, face_of(quick, photo)
    unit = max(face.width_px, face.height_px) / 112
    assert only(photo, quick) is None
    for blur in (1.5, 2, 3):
        blurred = cv2.GaussianBlur(pixels, (0, 0), blur * unit)
        assert only(spoilt(photo, blurred, "b"), quick) is Reason.BLURRED
    for light in (0.2, 0.12):
        assert only(spoilt(photo, pixels * light, "d"), quick) is Reason.TOO_DARK
    assert only(spoilt(photo, np.clip(pixels * 2.6 + 20, 0, 255), "w"), quick) is Reason.TOO_BRIGHT
    assert only(spoilt(photo, pixels * 0.25 + 180, "haze"), quick) is Reason.TOO_BRIGHT
    scale = 0.7 * LIMITS.min_face_px / max(face.width_px, face.height_px)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert only(spoilt(photo, small, "s"), quick) is Reason.TOO_SMALL


@pytest.mark.parametrize("name", NAMES)
def test_a_little_blur_shade_and_light_is_forgiven(models, quick, name):
    photo = read(demo(models, name)[0])
    assert only(spoilt(photo, photo.pixels * 0.7, "d"), quick) is None
    assert only(spoilt(photo, np.clip(photo.pixels * 1.15, 0, 255), "w"), quick) is None
    for turns in (1, 3):  # lying on its side is no reason to refuse
        turned = intake([spoilt(photo, np.rot90(photo.pixels, turns), "r")], quick)
        if turned.crops:  # the detector does not see every lying face
            points = turned.crops[0].face.points_px
            assert abs(points[1, 1] - points[0, 1]) < 0.2 * abs(points[1, 0] - points[0, 0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["eyes", "mouth"])
def test_covered(models, tools, name, where):
    photo = read(demo(models, name)[0])
    face, pixels = face_of(tools, photo), photo.pixels.copy()
    left, _, right, bottom = face.box_px.astype(int)
    eyes, nose, half = face.points_px[:2, 1].mean(), face.points_px[2, 1], 0.12 * face.height_px
    rows = slice(int(eyes - half), int(eyes + half)) if where == "eyes" else slice(int(nose), bottom)
    pixels[rows, left:right] = (15, 15, 20)
    assert only(spoilt(photo, pixels, "c"), tools) is Reason.COVERED


def test_turned_away(models, quick):
    class Profile:
        def mesh(self, pixels, face):
            mesh = quick.landmarker.mesh(pixels, face)
            return mesh and replace(mesh, pose=replace(mesh.pose, yaw_deg=-62.0))

    photo = read(demo(models, "obama")[0])
    assert only(photo, replace(quick, landmarker=Profile())) is Reason.TURNED_AWAY


def test_no_face(quick):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3))
    assert only(spoilt(None, noise, "n"), quick) is Reason.NO_FACE  # type: ignore[arg-type]


# ── several photos ───────────────────────────────────────────────────────────────────────────────


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    height = 900
    sides = [cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height)) for p in (left, right)]
    return np.hstack(sides)


def test_several_people(models, quick):
    obama, obama3, biden = (read(path) for path in demo(models, "obama", "obama3", "biden"))
    # Cut alike, so that neither face is four times the other.
    group = spoilt(obama, beside(obama3.pixels[:1100], biden.pixels[:1100]), "group")
    assert only(group, quick) is Reason.SEVERAL_PEOPLE
    result = intake([group, *demo(models, "obama", "obama2")], quick)
    assert [crop.photo_name for crop in result.crops] == ["group", "obama.jpg", "obama2.jpg"]
    assert not result.rejections
    twins = spoilt(obama, beside(obama3.pixels[:1100], obama.pixels), "twins")
    assert reasons(intake([twins, *demo(models, "obama", "obama2")], quick)) == {"twins": Reason.SEVERAL_PEOPLE}


def test_a_crowd_alone_is_not_guessed(models, quick):
    result = intake([models / "solvay" / "solvay_conference_1927.jpg"], quick)
    assert list(reasons(result).values()) == [Reason.SEVERAL_PEOPLE]


def test_copies_reduced_copies_and_crops_are_duplicates_and_the_best_stays(models, quick, tmp_path):
    original = demo(models, "obama")[0]
    picture = Image.open(original).convert("RGB")
    (tmp_path / "copy.jpg").write_bytes(original.read_bytes())
    picture.resize((455, 568)).save(tmp_path / "small.jpg", quality=70)
    picture.crop((40, 30, 880, 1000)).save(tmp_path / "cut.png")
    picture.point(lambda value: min(255, int(value * 1.1))).save(tmp_path / "lighter.webp", quality=60)
    paths = [tmp_path / "small.jpg", original, *sorted(tmp_path.glob("[!s]*")), *demo(models, "obama2")]
    result = intake(paths, quick)
    assert len(result.crops) == 2
    assert "small.jpg" in reasons(result)
    assert set(reasons(result).values()) == {Reason.DUPLICATE}


def test_every_photo_ends_once_with_advice_and_unreadable_ones_do_not_stop_the_rest(models, quick, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    good = demo(models, "obama", "obama2")
    paths = [tmp_path / "empty.jpg", good[0], tmp_path / "gone.jpg", good[1], good[0], tmp_path / "text.png"]
    ticks = []
    result = intake(paths, quick, tick=lambda *tick: ticks.append(tick))
    assert len(result.crops) + len(result.rejections) == len(paths)
    assert [crop.photo_name for crop in result.crops] == ["obama.jpg", "obama2.jpg"]
    assert [r.reason for r in result.rejections] == [Reason.UNREADABLE] * 2 + [Reason.DUPLICATE, Reason.UNREADABLE]
    assert all(rejection.advice for rejection in result.rejections)
    assert ticks == [("photos", done, 6) for done in range(7)]
    assert set(ADVICE) == set(Reason)


def test_stopping(models, quick):
    def stop(stage, done, total):
        if done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        intake(demo(models, "obama", "obama2", "obama3"), quick, tick=stop)


def test_nothing_in_nothing_out(quick):
    assert intake([], quick) == ((), ())
