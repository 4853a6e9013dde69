"""From photos to tokens: aligned chips, key-point pictures, fused vectors, and engines fed with real faces."""

import hashlib

import identity_kit as kit
import numpy as np
import pytest
import tiny_identity as tiny

from facechain.engines.faceid import FaceIdEngine
from facechain.engines.identity.align import chip_matrix
from facechain.engines.identity.fusion import fuse
from facechain.engines.identity.keypoints import draw_keypoints, fitting_size, published_size
from facechain.engines.instantid import InstantIdEngine
from facechain.errors import EngineError
from facechain.types import Embedding, Face

A = np.array([(200, 220), (300, 218), (251, 280), (210, 330), (292, 328)], np.float32)
B = np.array([(120.5, 90.25), (160.75, 110.5), (130, 125.75), (105.25, 135.5), (140.5, 152.75)], np.float32)
C = np.array([(10, 10), (16, 10), (13, 14), (11, 17), (15, 17)], np.float32)


# ── published numbers ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("points", "size", "rows"),
    [
        (A, 112, [[0.36267, -0.00311, -34.0032], [0.00311, 0.36267, -28.68602]]),
        (A, 224, [[0.72534, -0.00622, -68.00641], [0.00622, 0.72534, -57.37204]]),
        (A, 256, [[0.72534, -0.00622, -52.00641], [0.00622, 0.72534, -57.37204]]),
        (B, 112, [[0.74395, 0.33454, -82.86012], [-0.33454, 0.74395, 24.39053]]),
        (C, 112, [[5.96798, 0.03314, -22.00827], [-0.03314, 5.96798, -8.83304]]),
    ],
)
def test_alignment_equals_insightface(points, size, rows):
    assert np.abs(chip_matrix(points, size) - rows).max() < 1e-4


def test_keypoint_picture_is_the_published_one_to_the_byte():
    picture = draw_keypoints(A, 640, 640)
    assert hashlib.sha256(picture.tobytes()).hexdigest().startswith("cf3b118070f32939")
    assert np.count_nonzero(picture.any(axis=2)) == 3321
    assert picture.reshape(-1, 3).sum(axis=0).tolist() == [432684, 296157, 217821]
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    found = {tuple(map(int, colour)): int(count) for colour, count in zip(colours, counts, strict=True)}
    for disc in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)):
        assert found[disc] == 317
    sticks = {(153, 0, 0): 490, (0, 153, 0): 493, (153, 153, 0): 386, (153, 0, 153): 367}
    assert sticks.items() <= found.items()


@pytest.mark.parametrize(
    ("size", "theirs", "ours"),
    [
        ((512, 512), (1280, 1280), (512, 512)),
        ((1024, 1024), (1280, 1280), (1024, 1024)),
        ((1080, 1920), (704, 1280), (768, 1344)),
        ((3000, 4000), (960, 1280), (896, 1152)),
        ((900, 300), (1280, 384), (896, 320)),
    ],
)
def test_pictures_are_not_forced_to_1280(size, theirs, ours):
    assert published_size(*size) == theirs
    assert fitting_size(*size) == ours


# ── fusion ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def embedding(vector, unit_norm=True):
    vector = np.asarray(vector, np.float32)
    return Embedding(
        vector=vector / np.linalg.norm(vector) if unit_norm else vector, recogniser="x", unit_norm=unit_norm
    )


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("photos", [2, 3, 5, 12])
def test_a_fused_face_is_nearer_to_the_truth_than_any_photo(photos):
    random = np.random.default_rng(photos)
    truth = random.normal(size=512)
    seen = [embedding(truth + random.normal(size=512)) for _ in range(photos)]
    fused = fuse(seen)
    assert fused.kept == tuple(range(photos))
    assert np.linalg.norm(fused.embedding.vector) == pytest.approx(1, abs=1e-5)
    assert cosine(fused.embedding.vector, truth) > max(cosine(e.vector, truth) for e in seen) + 0.05


def test_a_stranger_among_the_photos_is_left_out():
    random = np.random.default_rng(0)
    truth, stranger = random.normal(size=(2, 512))
    seen = [embedding(truth + 0.5 * random.normal(size=512)) for _ in range(5)]
    fused = fuse([*seen[:2], embedding(stranger), *seen[2:]])
    assert fused.kept == (0, 1, 3, 4, 5)
    assert np.allclose(fused.embedding.vector, fuse(seen).embedding.vector)


def test_weights_pull_and_raw_lengths_are_kept():
    a, b = embedding([20, 0, 0], unit_norm=False), embedding([0, 24, 0], unit_norm=False)
    even, tilted = fuse([a, b]), fuse([a, b], [3, 1])
    assert np.linalg.norm(even.embedding.vector) == pytest.approx(22)
    assert np.linalg.norm(tilted.embedding.vector) == pytest.approx(21)
    assert cosine(tilted.embedding.vector, a.vector) > cosine(even.embedding.vector, a.vector)
    assert not even.embedding.unit_norm
    assert np.allclose(fuse([a, b], [0, 0]).embedding.vector, even.embedding.vector), "useless weights count as equal"


def test_nothing_and_mixtures_are_refused():
    with pytest.raises(EngineError, match="no face"):
        fuse([])
    with pytest.raises(EngineError, match="different recognisers"):
        fuse([embedding([1, 2, 3]), embedding([1, 2, 3], unit_norm=False)])


# ── real photos ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def readers(models):
    """InsightFace's small network, unit-length and raw; opt-in, so absent where nobody asked for it."""
    folder = models / "w600k_mbf"
    if not (folder / "w600k_mbf.onnx").is_file():
        pytest.skip("the pack w600k_mbf was not fetched")
    from facechain.vision.insightface_reader import ScrfdArcface

    paths = (folder / "scrfd_500m_bnkps.onnx", folder / "w600k_mbf.onnx")
    return {unit: ScrfdArcface(*paths, unit_norm=unit) for unit in (True, False)}


@pytest.fixture(scope="module")
def photos(models, readers):
    """Square crops around the largest face of each demo photo."""
    from PIL import Image

    made = {}
    for path in sorted((models / "demo-photos").glob("*.jpg")):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        face = max(readers[True].detect(pixels), key=lambda f: f.width_px)
        side = int(2 * face.height_px)
        left, top = np.maximum((face.box_px[:2] + face.box_px[2:] - side) / 2, 0).astype(int)
        cut = pixels[top : top + side, left : left + side]
        shift = np.array([left, top], np.float32)
        moved = Face(
            box_px=face.box_px - np.tile(shift, 2), points_px=face.points_px - shift, score=face.score, pose=face.pose
        )
        made[path.stem] = tiny.crop(len(made), np.ascontiguousarray(cut), moved)
    return made


def test_fusing_real_photos_beats_one(photos, readers):
    seen = {}
    for name, crop in photos.items():
        (seen[name],) = readers[False].embed(crop.pixels, [crop.face])
    mine = [seen[name] for name in ("obama", "obama2", "obama3")]
    for held_out in range(3):
        given = [e for n, e in enumerate(mine) if n != held_out]
        one = np.mean([cosine(e.vector, mine[held_out].vector) for e in given])
        assert cosine(fuse(given).embedding.vector, mine[held_out].vector) > one + 0.02
    with_stranger = [*mine, seen["obama_partial_face2"], seen["biden"]]
    assert 4 not in fuse(with_stranger).kept


@pytest.mark.parametrize("name", ["faceid", "instantid"])
def test_real_photos_through_a_whole_engine(name, photos, readers, tmp_path):
    if name == "faceid":
        base = tiny.sd15(tmp_path)
        file = tiny.save(tmp_path / "ip-adapter-faceid_sd15.bin", tiny.weights("faceid", tiny.layout(base)))
        engine = FaceIdEngine(
            context=kit.context(lambda: base), checkpoint=file, reader=readers[True], recogniser="w600k_mbf"
        )
        wrong = FaceIdEngine(context=kit.context(lambda: base), checkpoint=file, reader=readers[True])
    else:
        base = tiny.sdxl(tmp_path)
        file = tiny.save(tmp_path / "ip-adapter.bin", tiny.weights("instantid", tiny.layout(base)))
        given = {"context": kit.context(lambda: base), "checkpoint": file, "identitynet": tiny.identitynet(tmp_path)}
        engine = InstantIdEngine(**given, reader=readers[False], recogniser="w600k_mbf")
        wrong = InstantIdEngine(**given, reader=readers[True], recogniser="w600k_mbf")
    obama = tiny.person(*(photos[n] for n in ("obama", "obama2", "obama3")))
    with pytest.raises(EngineError):
        wrong.learn(obama)  # another recogniser, or unit-length where raw is needed
    pictures = []
    for who in (obama, tiny.person(photos["biden"])):
        identity = engine.learn(who)
        with engine.sitting(identity, tiny.STYLE) as paint:
            pictures.append(paint(tiny.shot(prompt="photo of a {person} in the (rain:1.3)")))
    assert not np.array_equal(*pictures)
