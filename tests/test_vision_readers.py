"""One contract for every reader in the table; a new one is tested by being listed."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facechain.errors import EngineError, PackMissing
from facechain.types import Face
from facechain.vision.insightface_reader import InsightfaceReader, ScrfdArcface, pack_folder
from facechain.vision.readers import GUARDS, LANDMARKERS, MATTERS, PARSERS, READERS


def picture(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def photos(models) -> dict[str, np.ndarray]:
    """The demo photos, at most 900 px high to be quick."""
    found = {}
    for path in sorted((models / "demo-photos").glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        image.thumbnail((900, 900))
        found[path.stem] = np.array(image)
    found["astronaut"] = picture(models / "astronaut" / "astronaut.png")
    return found


@pytest.fixture(scope="module", params=READERS)
def reader(request, models):
    """Every reader whose weights are here; some packs can only be had from their makers."""
    missing = []

    def path(pack: str, file: str) -> Path:
        place = models / pack / file
        missing.extend([pack] * (not place.is_file()))
        return place

    made = READERS[request.param](path)
    if missing:
        pytest.skip(f"the weights of {missing[0]} are not on this machine")
    return made


@pytest.fixture(scope="module")
def group(photos):
    """Three people side by side, in a known order."""
    parts = [Image.fromarray(photos[name]).resize((400, 500)) for name in ("obama", "astronaut", "obama3")]
    return np.hstack([np.array(part) for part in parts])


def likeness(a: Face, b: Face) -> float:
    assert a.embedding is not None
    assert b.embedding is not None
    u, v = a.embedding.vector, b.embedding.vector
    return float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))


def test_faces_are_described_as_promised(reader, photos):
    for pixels in photos.values():
        (face,) = reader.read(pixels)
        assert face.box_px.shape == (4,)
        assert face.points_px.shape == (5, 2)
        assert face.box_px.dtype == face.points_px.dtype == np.float32
        assert 0.5 <= face.score <= 1
        left_eye, right_eye, nose, left_mouth, right_mouth = face.points_px
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert left_eye[1] < nose[1] < left_mouth[1]
        assert 0 < face.width_px < face.height_px * 1.3


def test_embeddings_say_what_they_are(reader, photos):
    embedding = reader.read(photos["obama"])[0].embedding
    assert embedding.recogniser == reader.recogniser
    assert embedding.unit_norm is reader.unit_norm
    assert embedding.vector.dtype == np.float32
    if reader.unit_norm:
        assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-5)
    else:
        assert abs(np.linalg.norm(embedding.vector) - 1) > 0.1


def test_the_same_picture_gives_the_same_answer(reader, photos):
    first, second = reader.read(photos["biden"]), reader.read(photos["biden"])
    np.testing.assert_array_equal(first[0].box_px, second[0].box_px)
    np.testing.assert_array_equal(first[0].embedding.vector, second[0].embedding.vector)


def test_detecting_leaves_embeddings_for_later(reader, photos):
    faces = reader.detect(photos["obama"])
    assert all(face.embedding is None for face in faces)
    (embedding,) = reader.embed(photos["obama"], faces)
    np.testing.assert_allclose(embedding.vector, reader.read(photos["obama"])[0].embedding.vector, atol=1e-5)


def test_faces_come_left_to_right_and_embeddings_in_the_order_asked(reader, group):
    faces = reader.read(group)
    assert len(faces) == 3
    centres = [face.box_px[::2].mean() for face in faces]
    assert centres == sorted(centres)
    backwards = reader.embed(group, faces[::-1])
    for face, embedding in zip(faces, backwards[::-1], strict=True):
        np.testing.assert_allclose(face.embedding.vector, embedding.vector, atol=1e-4)
    assert likeness(faces[0], faces[2]) > likeness(faces[0], faces[1])


def test_the_same_person_is_closer_than_a_stranger(reader, photos):
    faces = {name: reader.read(pixels)[0] for name, pixels in photos.items()}
    person = [face for name, face in faces.items() if name.startswith("obama")]
    strangers = [face for name, face in faces.items() if not name.startswith("obama")]
    least = min(likeness(a, b) for a in person for b in person)
    most = max(likeness(a, b) for a in person for b in strangers)
    assert least > most + 0.05


def test_no_face_is_no_error(reader):
    rng = np.random.default_rng(0)
    for pixels in (np.zeros((200, 300, 3), np.uint8), rng.integers(0, 255, (240, 240, 3), np.uint8)):
        assert reader.read(pixels) == ()
        assert reader.embed(pixels, ()) == ()


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (5, 3000), (3000, 5), (17, 23)])
def test_odd_pictures_are_no_error(reader, size):
    assert reader.read(np.full((*size, 3), 127, np.uint8)) == ()


def test_a_huge_picture_is_read_as_its_reduced_copy_is(reader, photos):
    small = photos["obama"]
    huge = np.array(Image.fromarray(small).resize((small.shape[1] * 6, small.shape[0] * 6), Image.Resampling.BICUBIC))
    (face,), (big,) = reader.read(small), reader.read(huge)
    np.testing.assert_allclose(big.points_px / 6, face.points_px, atol=0.05 * face.height_px)
    assert likeness(face, big) > 0.9


def test_a_face_that_fills_the_picture_is_found(reader, photos):
    (face,) = reader.detect(photos["obama"])
    left, top, right, bottom = face.box_px.astype(int)
    tight = np.ascontiguousarray(photos["obama"][top:bottom, left:right])
    for zoom in (1, 4):
        (again,) = reader.detect(
            np.array(Image.fromarray(tight).resize((tight.shape[1] * zoom, tight.shape[0] * zoom)))
        )
        expected = (face.points_px - (left, top)) * zoom
        np.testing.assert_allclose(again.points_px, expected, atol=0.08 * face.height_px * zoom)


def test_grey_pictures_are_read(reader, photos):
    grey = np.array(Image.fromarray(photos["obama"]).convert("L").convert("RGB"))
    assert likeness(reader.read(grey)[0], reader.read(photos["obama"])[0]) > 0.8


def test_pixels_need_not_lie_in_order_in_memory(reader, photos):
    mirrored = photos["obama2"][:, ::-1]
    np.testing.assert_array_equal(
        reader.read(mirrored)[0].embedding.vector, reader.read(mirrored.copy())[0].embedding.vector
    )


def test_mirroring_a_picture_mirrors_its_faces(reader, photos):
    for name in ("obama2", "obama3"):
        (face,), (mirrored,) = reader.detect(photos[name]), reader.detect(photos[name][:, ::-1].copy())
        expected = face.points_px[[1, 0, 2, 4, 3]]
        expected = np.stack([photos[name].shape[1] - 1 - expected[:, 0], expected[:, 1]], -1)
        np.testing.assert_allclose(mirrored.points_px, expected, atol=0.04 * face.height_px)
        assert np.sign(mirrored.pose.yaw_deg) == -np.sign(face.pose.yaw_deg)


def test_pose_says_where_faces_look(reader, photos):
    assert reader.detect(photos["obama2"])[0].pose.yaw_deg < -8  # towards the left edge
    assert reader.detect(photos["obama3"])[0].pose.yaw_deg > 8
    assert abs(reader.detect(photos["obama"])[0].pose.yaw_deg) < 8


def test_threads_may_share_a_reader(reader, photos):
    names = list(photos) * 2
    alone = [reader.read(photos[name])[0].embedding.vector for name in names]
    with ThreadPoolExecutor(4) as pool:
        together = [faces[0].embedding.vector for faces in pool.map(lambda name: reader.read(photos[name]), names)]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", ["yunet_sface", "w600k_mbf"])
def test_all_29_people_of_the_1927_solvay_photo_are_found(name, models):
    reader = READERS[name](lambda pack, file: models / pack / file)
    faces = reader.detect(picture(models / "solvay" / "solvay_conference_1927.jpg"))
    assert len(faces) == 29


def test_embeddings_equal_those_of_the_insightface_package(models, photos):
    """Cosines between FaceAnalysis's embeddings (insightface 2.1, det_size 640, the same two files)."""
    reader = READERS["w600k_mbf"](lambda pack, file: models / pack / file)
    originals = {path.stem: picture(path) for path in (models / "demo-photos").glob("obama*.jpg")}
    faces = {name: reader.read(pixels)[0] for name, pixels in originals.items()}
    for (a, b), cosine in FACE_ANALYSIS.items():
        assert likeness(faces[a], faces[b]) == pytest.approx(cosine, abs=2e-4)


FACE_ANALYSIS = {
    ("obama", "obama2"): 0.71891,
    ("obama", "obama3"): 0.70155,
    ("obama2", "obama3"): 0.64612,
    ("obama", "obama_partial_face"): 0.89475,
    ("obama3", "obama_partial_face2"): 0.66328,
}


def test_raw_embeddings_keep_their_length(models, photos):
    pack = models / "w600k_mbf"
    raw = ScrfdArcface(pack / "scrfd_500m_bnkps.onnx", pack / "w600k_mbf.onnx", unit_norm=False)
    embedding = raw.read(photos["obama"])[0].embedding
    assert embedding is not None
    assert not embedding.unit_norm
    assert np.linalg.norm(embedding.vector) > 5


def test_a_missing_model_is_named_with_the_command_that_fetches_it(tmp_path):
    for table in (READERS, LANDMARKERS, PARSERS, MATTERS, GUARDS):
        for make in table.values():
            make(lambda pack, file: tmp_path / pack / file)  # nothing is opened before it is needed
    reader = READERS["yunet_sface"](lambda pack, file: tmp_path / pack / file)
    with pytest.raises(PackMissing, match="facechain packs fetch yunet"):
        reader.detect(np.zeros((64, 64, 3), np.uint8))


def test_a_doubled_pack_folder_is_accepted(tmp_path):
    inner = tmp_path / "antelopev2" / "antelopev2"
    inner.mkdir(parents=True)
    (inner / "glintr100.onnx").touch()
    assert pack_folder(tmp_path / "antelopev2", "glintr100.onnx") == inner
    with pytest.raises(PackMissing, match="w600k_r50"):
        pack_folder(tmp_path / "antelopev2", "w600k_r50.onnx")


def test_without_the_insightface_package_the_error_says_how_to_install_it(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    reader = InsightfaceReader(models / "w600k_mbf", "w600k_mbf")
    with pytest.raises(EngineError, match=r"override.*insightface"):
        reader.detect(np.zeros((64, 64, 3), np.uint8))


def test_listing_the_tables_imports_no_heavy_library():
    code = (
        "import sys, facechain.vision.readers as r; assert r.READERS and r.LANDMARKERS;"
        "print([m for m in ('cv2', 'onnxruntime', 'ai_edge_litert', 'dlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.strip() == "[]"
