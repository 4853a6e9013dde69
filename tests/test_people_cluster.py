"""Sorting albums: promises that hold for any faces, and a mixed album of real ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facechain.errors import FaceChainError
from facechain.people.cluster import Where, cluster
from facechain.types import Embedding, Face, Pose


def a_face(
    vector, size: float = 100, score: float = 0.9, yaw_deg: float = 0, recogniser: str = "sface_2021dec"
) -> Face:
    vector = np.asarray(vector, np.float32)
    return Face(
        box_px=np.array([0, 0, size, size], np.float32),
        points_px=np.zeros((5, 2), np.float32),
        score=score,
        pose=Pose(yaw_deg=yaw_deg, pitch_deg=0, roll_deg=0),
        embedding=Embedding(vector=vector / np.linalg.norm(vector), recogniser=recogniser),
    )


def album(seed: int, photos: int, people: int, spread: float) -> list[list[Face]]:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 16))
    return [
        [
            a_face(centres[random.integers(people)] + spread * random.normal(size=16), size=random.uniform(10, 200))
            for _ in range(random.integers(0, 6))
        ]
        for _ in range(photos)
    ]


albums = st.builds(album, st.integers(0, 9999), st.integers(0, 12), st.integers(1, 4), st.floats(0, 2))


@settings(max_examples=60)
@given(albums, st.floats(-0.5, 1))
def test_every_face_ends_once_and_never_twice_in_one_photo(photos, link):
    result = cluster(photos, link)
    everywhere = [Where(p, f) for p, faces in enumerate(photos) for f in range(len(faces))]
    assert sorted([where for person in result.persons for where in person] + list(result.left_out)) == everywhere
    for person in result.persons:
        assert len({where.photo for where in person}) == len(person)
    for where in result.left_out:
        assert photos[where.photo][where.face].width_px < 36


# Equal likenesses may be joined in either order, so no two faces here are quite equal.
distinct = st.builds(album, st.integers(0, 9999), st.integers(0, 12), st.integers(1, 4), st.floats(0.05, 2))


@settings(max_examples=40)
@given(distinct)
def test_the_order_of_photos_does_not_matter(photos):
    forward, backward = cluster(photos), cluster(photos[::-1])
    back = {
        frozenset(Where(len(photos) - 1 - where.photo, where.face) for where in person) for person in backward.persons
    }
    assert {frozenset(person) for person in forward.persons} == back


def test_a_chain_of_lucky_likenesses_does_not_join_strangers():
    angles = np.radians(np.arange(0, 181, 20))  # each is like the next (cosine 0.94), the ends are opposites
    photos = [[a_face((np.cos(angle), np.sin(angle)))] for angle in angles]
    result = cluster(photos, 0.45)
    assert len(result.persons) >= 2
    for person in result.persons:
        rows = np.stack([photos[where.photo][0].embedding.vector for where in person])
        assert (rows @ rows.T).mean() >= 0.45


def test_poor_faces_are_left_out():
    vector = np.ones(8)
    photos = [[a_face(vector)], [a_face(vector, size=20)], [a_face(vector, score=0.5)], [a_face(vector, yaw_deg=80)]]
    result = cluster(photos)
    assert result.persons == ((Where(0, 0),),)
    assert len(result.left_out) == 3


def test_faces_that_cannot_be_compared():
    with pytest.raises(FaceChainError, match="compared"):
        cluster([[a_face(np.ones(8))], [a_face(np.ones(8), recogniser="other")]])


def test_thousands_of_faces():
    random = np.random.default_rng(3)
    centres = random.normal(size=(60, 64))
    photos = [[a_face(centres[i % 60] + 0.6 * random.normal(size=64))] for i in range(2000)]
    assert len(cluster(photos).persons) == 60


# ── real faces ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def real(models):
    """Photos with their faces, and who each face is. Everyone in the Solvay photo is somebody else."""
    from facechain.photos.read import read
    from facechain.vision.yunet_sface import YunetSface

    reader = YunetSface(
        models / "yunet" / "face_detection_yunet_2023mar.onnx", models / "sface" / "face_recognition_sface_2021dec.onnx"
    )
    named = [(path, path.stem.rstrip("23").split("_")[0]) for path in sorted((models / "demo-photos").glob("*.jpg"))]
    named += [(path, path.parent.name) for path in sorted((models / "johns").glob("*/*.jpg"))]
    named.append((models / "astronaut" / "astronaut.png", "astronaut"))
    photos = [reader.read(read(path).pixels) for path, _ in named]
    truth = {Where(p, f): who for p, (_, who) in enumerate(named) for f in range(len(photos[p]))}
    solvay = reader.read(read(models / "solvay" / "solvay_conference_1927.jpg").pixels)
    truth |= {Where(len(photos), f): f"solvay {f}" for f in range(len(solvay))}
    return [*photos, solvay], truth


def b_cubed(persons, truth) -> float:
    """F1 of Bagga and Baldwin's measure; a face left out is a person of its own."""
    group = {where: person for person in persons for where in person}
    people = list(truth.values())
    precision, recall = [], []
    for where, who in truth.items():
        mates = group.get(where, (where,))
        right = sum(truth[mate] == who for mate in mates)
        precision.append(right / len(mates))
        recall.append(right / people.count(who))
    p, r = np.mean(precision), np.mean(recall)
    return float(2 * p * r / (p + r))


def test_a_mixed_album_with_the_solvay_photo(real):
    photos, truth = real
    assert len(photos[-1]) == 29
    result = cluster(photos)
    assert b_cubed(result.persons, truth) >= 0.99
    for person in result.persons:
        assert len({where.photo for where in person}) == len(person)
    # Old, small faces invite chaining: even torn into 29 photos, hardly any may join.
    torn = cluster([[face] for face in photos[-1]])
    assert len(torn.persons) + len(torn.left_out) >= 26
