"""What a training leaves on its way is found again."""

import json

from facechain.store.learned import newest_training


def _training(folder, name, points=(), samples=(), finished=False):
    home = folder / name
    home.mkdir(parents=True)
    (home / "job.json").write_text("{}")
    if points:
        (home / "curve.json").write_text(json.dumps({"points": [{"step": s, "likeness": v} for s, v in points]}))
    for sample in samples:
        (home / "validation" / sample).parent.mkdir(parents=True, exist_ok=True)
        (home / "validation" / sample).write_bytes(b"")
    if finished:
        (home / "result").mkdir()
        (home / "result" / "result.json").write_text("{}")
    return home


def test_nothing_trained_is_none(tmp_path):
    assert newest_training(tmp_path) is None
    (tmp_path / "stray").mkdir()
    assert newest_training(tmp_path) is None


def test_curve_samples_and_the_best_step(tmp_path):
    samples = ("step-000100/1.png", "step-000100/0.png", "step-000200/0.png")
    _training(tmp_path, "a", ((100, 0.2), (200, 0.5), (300, 0.5)), samples)
    found = newest_training(tmp_path)
    assert found is not None
    assert found.points == ((100, 0.2), (200, 0.5), (300, 0.5))
    assert found.best_step == 200, "the earliest of the best"
    assert [f"{path.parent.name}/{path.name}" for path in found.samples] == sorted(samples)
    assert not found.finished


def test_the_newest_training_counts_and_a_half_written_curve_is_none_yet(tmp_path):
    import os

    old = _training(tmp_path, "old", ((100, 0.9),), finished=True)
    for path in (old, *old.rglob("*")):
        os.utime(path, (1, 1))
    new = _training(tmp_path, "new")
    (new / "curve.json").write_text('{"points": [{"st')
    found = newest_training(tmp_path)
    assert found is not None
    assert (found.name, found.points, found.best_step, found.finished) == ("new", (), None, False)
