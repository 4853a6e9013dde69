"""The command line as a person uses it, on real photos and models."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from facechain import bootstrap
from facechain.cli import app, guarded

AGREED = ("--consent-by", "Test Person", "--purpose", "tests")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture
def run(models, workspace, monkeypatch, capfd):
    """Runs `facechain ARGUMENTS` in this process; returns exit code, stdout, stderr."""
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(workspace))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models))
    monkeypatch.setenv("FACECHAIN_OFFLINE", "1")
    bootstrap.studio.cache_clear()

    def call(*arguments):
        capfd.readouterr()
        code = guarded(lambda: app([str(a) for a in arguments], standalone_mode=False))
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def ada(run, models, workspace):
    """A person made of three official portraits, enrolled once for the module."""
    if not (workspace / "people" / "ada").exists():
        photos = [models / "demo-photos" / name for name in ("obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg")]
        code, out, err = run("people", "add", "ada", *photos, *AGREED, "--json")
        assert code == 0, err
        said = json.loads(out)
        assert len(said["person"]["crops"]) == 2
        assert len(said["person"]["held_out"]) == 1
        assert [r["reason"] for r in said["rejections"]] == ["someone_else"]
    return "ada"


# ── the journey ──────────────────────────────────────────────────────────────────────────────────


def test_from_photos_to_a_judged_portrait(run, ada, tmp_path, models):
    out = tmp_path / "out"
    code, said, err = run(
        "make", ada, "--style", "astronaut", "--count", 3, "--keep", 2, "--seed", 5, "--out", out, "--json"
    )
    assert code == 0, err
    results = json.loads(said)["results"]
    assert [r["verdicts"][0]["kept"] for r in results] == [True, True, False]
    assert {r["verdicts"][0]["call"] for r in results[:2]} == {"same person"}
    assert {r["engine"] for r in results} == {"template"}
    assert results[0]["verdicts"][0]["llr"] >= results[1]["verdicts"][0]["llr"]
    assert all(r["verdicts"][0]["held_out"] and r["verdicts"][0]["why"] for r in results)
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 2

    code, said, _ = run("judge", *pictures, models / "demo-photos" / "biden.jpg", "--person", ada, "--json")
    calls = {r["id"]: r["verdicts"][0]["call"] for r in json.loads(said)}
    assert code == 0
    assert calls["biden.jpg"] == "someone else"
    assert all(calls[p.name] == "same person" for p in pictures)

    code, _, _ = run("make", ada, "--style", "astronaut", "--count", 1, "--seed", 5, "--out", tmp_path / "b", "--json")
    assert code == 0
    first, second = pictures, sorted((tmp_path / "b").glob("*.png"))
    same = {p.name for p in first} & {p.name for p in second}
    for name in same:  # same seed, same picture, in whatever batch
        np.testing.assert_array_equal(np.asarray(Image.open(out / name)), np.asarray(Image.open(tmp_path / "b" / name)))


def test_a_budget_is_used_only_until_enough_are_the_person(run, ada):
    code, said, err = run("make", ada, "--style", "astronaut", "--keep", 1, "--budget", 5, "--seed", 5, "--json")
    assert code == 0, err
    made = json.loads(said)
    assert len(made["results"]) == 1
    assert "Enough" in made["summary"]


def test_a_floor_of_ones_own_keeps_fewer(run, ada):
    code, said, err = run("make", ada, "--style", "astronaut", "--count", 1, "--floor", 0.999, "--seed", 5, "--json")
    assert code == 0, err
    (verdict,) = json.loads(said)["results"][0]["verdicts"]
    assert verdict["call"] == "same person"
    assert (verdict["kept"], "below the floor" in verdict["why"]) == (False, True)


def test_portraits_carry_their_recipe_and_the_mark(run, ada, tmp_path):
    from facechain.portraits.provenance import is_marked, read_recipe

    for format, ending in (("png", "png"), ("jpeg", "jpg"), ("webp", "webp")):
        out = tmp_path / format
        code, _, err = run(
            "make", ada, "--style", "astronaut", "--count", 1, "--seed", 9, "--out", out, "--format", format
        )
        assert code == 0, err
        (picture,) = out.glob(f"*.{ending}")
        assert is_marked(picture)
        recipe = read_recipe(picture)
        assert recipe["engine"] == "template"
        assert recipe["packs"]["landmarker"]
        assert "ada" not in json.dumps(recipe)


def test_two_people_into_one_picture(run, ada, models, tmp_path):
    run("people", "add", "bob", models / "demo-photos" / "biden.jpg", *AGREED)
    one, two = (
        np.asarray(Image.open(models / n).convert("RGB")) for n in ("astronaut/astronaut.png", "demo-photos/obama.jpg")
    )
    right = np.asarray(Image.fromarray(two).resize((410, 512)))
    Image.fromarray(np.hstack([one, right])).save(tmp_path / "two.png")
    code, said, err = run(
        "make", "ada", "bob", "--template", tmp_path / "two.png", "--faces", "1,2", "--count", 1, "--json"
    )
    assert code == 0, err
    (result,) = json.loads(said)["results"]
    assert [v["person"] for v in result["verdicts"]] == ["ada", "bob"]
    assert [v["call"] for v in result["verdicts"]] == ["same person", "same person"]
    assert result["verdicts"][0]["faces"] == 2

    code, said, _ = run("people", "forget", "bob", "--json")
    assert code == 0
    assert json.loads(said)["portraits"] == 1, "the picture of both goes with either"


def test_the_options_of_an_engine_are_listed(run):
    code, text = run("engines", "lora")[:2]
    assert code == 0
    assert "steps" in text
    assert "1 to 200" in text
    assert run("engines", "magic")[0] == 2


def test_lists(run, ada):
    for arguments in (
        ["people", "list"],
        ["people", "show", ada],
        ["styles"],
        ["engines"],
        ["packs", "list"],
        ["packs", "licences"],
    ):
        code, said, err = run(*arguments, "--json")
        assert code == 0, err
        assert json.loads(said)
        code, said, _ = run(*arguments)
        assert code == 0
        assert said.strip()


def test_a_mixed_album_is_sorted(run, models):
    code, said, err = run("photos", "check", models / "demo-photos", "--sort", "--json")
    assert code == 0, err
    album = json.loads(said)
    assert ["biden.jpg"] in album["persons"]
    assert any({"obama.jpg", "obama2.jpg", "obama3.jpg"} <= set(p) for p in album["persons"])


def test_forget_leaves_no_byte(run, models, workspace):
    run("people", "add", "Zebedee Quux", models / "demo-photos" / "obama.jpg", *AGREED)
    run("make", "Zebedee Quux", "--style", "astronaut", "--count", 1)
    code, _, err = run("people", "forget", "Zebedee Quux", "--yes")
    assert code == 0, err
    for path in workspace.rglob("*"):
        assert "zebedee" not in path.name.lower()
        if path.is_file():
            assert b"Zebedee" not in path.read_bytes(), path


# ── what can go wrong ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["people", "add", "eve", "{photo}"], "consent"),
        (["people", "add", "ada", "{photo}", *AGREED], "already"),
        (["people", "add", "../../x", "{photo}", *AGREED], "'/'"),
        (["people", "add", "eve", "{empty}", *AGREED], "no pictures"),
        (["people", "add", "eve", "{nothing}", *AGREED], "nothing"),
        (["people", "add", "eve", "{blank}", *AGREED], "usable photo"),
        (["people", "show", "nobody"], "people list"),
        (["people", "forget", "nobody", "--yes"], "nobody"),
        (["make", "nobody", "--style", "astronaut"], "nobody"),
        (["make", "ada"], "--template"),
        (["make", "ada", "--template", "{blank}"], "no face"),
        (["make", "ada", "ada", "--style", "astronaut"], "1 face"),
        (["make", "ada", "--style", "astronaut", "--faces", "2"], "no face 2"),
        (["make", "ada", "--style", "astronaut", "--faces", "x"], "--faces"),
        (["make", "ada", "--style", "nope"], "styles"),
        (["make", "ada", "--engine", "nope"], "template"),
        (["make", "ada", "--style", "astronaut", "--set", "strength=2"], "identity_scale is 2"),
        (["make", "ada", "--style", "astronaut", "--set", "strenght=1"], "Did you mean 'identity_scale'"),
        (["make", "ada", "--style", "astronaut", "--format", "gif"], "png"),
        (["make", "ada", "--style", "astronaut", "--count", "0"], "--count"),
        (["make", "ada", "--style", "astronaut", "--floor", "2"], "--floor"),
        (["make", "ada", "--style", "astronaut", "--size", "big"], "--size"),
        (["make", "ada", "--style", "astronaut", "--size", "500x512"], "multiple of 8"),
        (["judge", "{nothing}", "--person", "ada"], "nothing"),
        (["packs", "fetch", "nope"], "nope"),
        (["packs", "fetch", "--for", "nope"], "core"),
        (["nope"], "nope"),
    ],
)
def test_mistakes_are_named_in_one_line_and_exit_2(run, ada, models, tmp_path, workspace, arguments, says):
    places = {
        "photo": models / "demo-photos" / "obama.jpg",
        "empty": tmp_path / "empty",
        "nothing": tmp_path / "nothing",
        "blank": tmp_path / "blank.png",
    }
    places["empty"].mkdir()
    Image.new("RGB", (300, 300), "grey").save(places["blank"])
    before = {p for p in workspace.rglob("*") if p.is_file()}
    code, out, err = run(*(a.format(**places) for a in arguments))
    assert (code, out) == (2, ""), err
    *stages, last = err.splitlines()
    assert last.startswith("facechain: ")
    assert says in last
    assert all(line.endswith(" s") for line in stages), stages
    changed = {p for p in workspace.rglob("*") if p.is_file()} - before
    assert not [p for p in changed if p.suffix in (".png", ".json", ".npz")]


def test_a_missing_model_names_the_fetch(run, ada, models, tmp_path, monkeypatch):
    fewer = tmp_path / "models"
    shutil.copytree(models, fewer, ignore=shutil.ignore_patterns(".archives", "johns", "landmarker", "modnet"))
    monkeypatch.setenv("FACECHAIN_MODELS", str(fewer))
    code, _, err = run("make", ada, "--style", "astronaut")
    assert code == 2
    assert "facechain packs fetch landmarker" in err


def test_a_workspace_that_cannot_be_written_is_named(run, models, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path / "file" / "inside"))
    code, _, err = run("people", "add", "eve", models / "demo-photos" / "obama.jpg", *AGREED)
    assert code == 2, err
    assert "inside" in err


def test_a_killed_run_leaves_no_half_file(ada, models, workspace, run):
    """Kill while painting: what is listed afterwards opens."""
    command = [sys.executable, "-m", "facechain", "make", "ada", "--style", "astronaut", "--count", "50"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = workspace / "people" / "ada" / "portraits"
    before = len(list(runs.glob("*/*.png")))
    deadline = time.time() + 120
    while len(list(runs.glob("*/*.png"))) < before + 2 and time.time() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    listed = bootstrap.studio().tools.workspace.portraits("ada")
    assert len(listed) >= before + 1
    for portrait in listed:
        Image.open(portrait.path).load()
