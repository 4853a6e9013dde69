"""People and portraits come back as they were kept, and leave nothing when forgotten."""

import hashlib
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from store_kit import crop, files, keep, person, portrait, verdict

from facechain.errors import Missing, PersonError, StoreError
from facechain.store.workspace import Workspace
from facechain.types import Call, Tag


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def assert_same(one: object, other: object) -> None:
    """Field by field, arrays by dtype and value."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, tuple) and isinstance(other, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def test_a_person_comes_back_exactly(workspace: Workspace) -> None:
    ada = person()
    workspace.save_person("ada", ada, [])
    assert_same(workspace.load_person("ada"), ada)


def test_a_face_without_embedding_comes_back(workspace: Workspace) -> None:
    one = crop(5)
    ada = person(crops=(replace(one, face=replace(one.face, embedding=None)),))
    workspace.save_person("ada", ada, [])
    assert_same(workspace.load_person("ada"), ada)


def test_only_originals_that_gave_a_crop_are_kept(workspace: Workspace, tmp_path: Path) -> None:
    used, unused = tmp_path / "Used.JPG", tmp_path / "unused.jpg"
    used.write_bytes(b"a photo")
    unused.write_bytes(b"a stranger")
    photo_id = hashlib.sha256(b"a photo").hexdigest()
    workspace.save_person("ada", person(crops=(crop(1, photo_id),)), [used, unused])
    photos = list((workspace.folder / "people/ada/photos").iterdir())
    assert [(photo.name, photo.read_bytes()) for photo in photos] == [(f"{photo_id}.jpg", b"a photo")]


def test_listing(workspace: Workspace) -> None:
    assert workspace.list_people() == ()
    assert workspace.portraits() == ()
    assert not workspace.folder.exists()
    workspace.save_person("zoe-1", person("Zoë"), [])
    workspace.save_person("ada", person("Ada"), [])
    keep(workspace, workspace.new_run("ada"), portrait())
    ada, zoe = workspace.list_people()
    assert (ada.name, ada.slug, ada.photos, ada.held_out, ada.portraits) == ("Ada", "ada", 2, 1, 1)
    assert (zoe.name, zoe.consent) == ("Zoë", person("Zoë").consent)


def test_listing_does_not_load_the_database() -> None:
    code = "import sys, pathlib; from facechain.store.workspace import Workspace as W\n"
    code += "W(pathlib.Path('nowhere')).list_people(); assert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_a_taken_slug_is_refused_and_kept(workspace: Workspace) -> None:
    workspace.save_person("ada", person(), [])
    with pytest.raises(PersonError, match="people forget ada"):
        workspace.save_person("ada", person(seed=9), [])
    with pytest.raises(PersonError, match="already"):
        workspace.check_free("ada")
    assert_same(workspace.load_person("ada"), person())


@pytest.mark.parametrize("slug", ["../x", "..", ".", "", "a/b", "a\\b", "/etc", ".hidden", "a.", "x" * 200, "a\0b"])
def test_no_slug_leaves_the_folder(workspace: Workspace, tmp_path: Path, slug: str) -> None:
    workspace.save_person("ada", person(), [])
    before = files(tmp_path)
    for act in (
        lambda: workspace.save_person(slug, person(), []),
        lambda: workspace.load_person(slug),
        lambda: workspace.forget(slug),
        lambda: workspace.new_run(slug),
        lambda: workspace.portraits(slug),
        lambda: workspace.save_person("eve", person(crops=(crop(1, slug or "../y"),)), []),
        lambda: keep(workspace, workspace.folder / "people/ada/portraits", portrait(id=slug)),
    ):
        with pytest.raises((StoreError, PersonError)):
            act()
    assert files(tmp_path) == before


def test_a_link_out_of_the_workspace_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    workspace.save_person("ada", person(), [])
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace.folder / "people/eve").symlink_to(outside, target_is_directory=True)
    with pytest.raises(StoreError, match="out of the workspace"):
        workspace.forget("eve")
    assert outside.exists()


@pytest.mark.parametrize(("format", "ending"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_a_portrait_comes_back(workspace: Workspace, format: str, ending: str) -> None:
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")
    path = keep(workspace, run, portrait(), format)
    (kept,) = workspace.portraits()
    assert path == kept.path == run / f"7-0000{ending}"
    assert (kept.id, kept.slug, kept.run, kept.people, kept.slots) == ("7-0000", "ada", run.name, ("Ada",), (0,))
    assert kept.recipe == portrait().recipe
    assert kept.verdicts == (verdict("Ada"),)


def test_verdicts_are_replaced(workspace: Workspace) -> None:
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")
    keep(workspace, run, portrait())
    assert workspace.portraits("ada")[0].verdicts == (verdict("Ada"),)
    dropped = replace(verdict("Ada", kept=False), likeness=float(np.float32(0.1)), copy_score=np.float32(0.5))
    workspace.save_verdicts(run, "7-0000", (dropped,))
    assert workspace.portraits("ada")[0].verdicts == (dropped,)
    with pytest.raises(Missing, match="no portrait"):
        workspace.save_verdicts(run, "7-0001", (dropped,))


def test_only_pictures_with_a_sidecar_are_listed(workspace: Workspace) -> None:
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")
    keep(workspace, run, portrait())
    (run / "7-0001.png").write_bytes(b"half")
    (run / "7-0002.json").write_text("{}")
    assert [kept.id for kept in workspace.portraits()] == ["7-0000"]


def test_a_portrait_is_not_overwritten(workspace: Workspace) -> None:
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")
    keep(workspace, run, portrait())
    with pytest.raises(StoreError, match="new run"):
        keep(workspace, run, portrait(), "webp")


def test_after_forget_no_byte_remains(workspace: Workspace, tmp_path: Path) -> None:
    original = tmp_path / "original.jpg"
    original.write_bytes(b"Ottoline's own photo")
    photo_id = hashlib.sha256(original.read_bytes()).hexdigest()
    workspace.save_person("ottoline-9f", person("Ottoline", crops=(crop(1, photo_id),)), [original])
    workspace.save_person("ada", person("Ada", seed=20), [])
    ada = workspace.new_run("ada")
    keep(workspace, ada, portrait("11-0001"))
    keep(workspace, ada, portrait("99-7777", ("Ada", "Ottoline")))
    keep(workspace, workspace.new_run("ottoline-9f"), portrait("88-6666", ("ottoline-9f",)))
    for extra in range(40):  # enough rows for the database to move pages about
        keep(workspace, ada, portrait(f"77-5555-{extra}", ("Ottoline", "Ada")))
    assert len(workspace.portraits("ottoline-9f")) == 42
    (ada / "66-4444.png").write_bytes(b"saved by a process killed before the sidecar")

    assert workspace.forget("ottoline-9f") == 42

    assert [kept.id for kept in workspace.portraits()] == ["11-0001"]
    assert [known.slug for known in workspace.list_people()] == ["ada"]
    traces = [b"ottoline", b"99-7777", b"88-6666", b"77-5555", b"66-4444", photo_id.encode()]
    for path in workspace.folder.rglob("*"):
        where = str(path.relative_to(workspace.folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        assert not [trace for trace in traces if trace in where.lower()], path
    with pytest.raises(PersonError, match="people list"):
        workspace.forget("ottoline-9f")


def test_nothing_is_saved_for_the_forgotten(workspace: Workspace) -> None:
    workspace.save_person("ada", person("Ada"), [])
    workspace.save_person("bob", person("Bob"), [])
    ada, bob = workspace.new_run("ada"), workspace.new_run("bob")
    workspace.forget("bob")
    before = files(workspace.folder)
    with pytest.raises(PersonError):
        keep(workspace, bob, portrait())
    with pytest.raises(PersonError, match="Bob"):
        keep(workspace, ada, portrait("8-0000", ("Ada", "Bob")))
    assert files(workspace.folder) == before


def test_a_damaged_person_is_named_and_can_be_forgotten(workspace: Workspace) -> None:
    workspace.save_person("ada", person(), [])
    sheet = workspace.folder / "people/ada/person.json"
    sheet.write_bytes(sheet.read_bytes()[:50])
    with pytest.raises(StoreError, match="people forget ada"):
        workspace.load_person("ada")
    assert [damaged.slug for damaged in workspace.damaged_people()] == ["ada"]
    workspace.forget("ada")
    assert workspace.list_people() == workspace.damaged_people() == ()


# ── photos and portraits one at a time ───────────────────────────────────────────────────────────


def test_a_photo_is_described_anew_and_nothing_else_changes(workspace: Workspace) -> None:
    who = person()
    workspace.save_person("ada", who, [])
    first = workspace.photos("ada")[0]
    assert [photo.held_out for photo in workspace.photos("ada")] == [False, False, True]
    workspace.describe_photo("ada", first.id, "with a hat", (Tag(name="hat", value="yes", confidence=1.0),))
    again = workspace.load_person("ada").crops[0]
    assert (again.caption, again.tags) == ("with a hat", (Tag(name="hat", value="yes", confidence=1.0),))
    assert np.array_equal(again.pixels, who.crops[0].pixels)
    assert again.face.embedding is not None
    assert who.crops[0].face.embedding is not None
    assert np.array_equal(again.face.embedding.vector, who.crops[0].face.embedding.vector)
    with pytest.raises(PersonError):
        workspace.describe_photo("ada", "nosuch", "", ())
    with pytest.raises(StoreError):
        workspace.crop_png("ada", "../person")


def test_one_portrait_is_found_and_deleted_by_its_key(workspace: Workspace) -> None:
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")
    for id in ("1-0000", "1-0001"):
        keep(workspace, run, portrait(id))
    kept = workspace.portraits()[0]
    assert workspace.portrait(*kept.key.split("/")).path == kept.path
    workspace.delete_portrait(*kept.key.split("/"))
    assert [other.id for other in workspace.portraits()] == ["1-0000"]
    with pytest.raises(Missing):
        workspace.portrait(*kept.key.split("/"))
    for key in (("ada", "..", "person"), ("..", "ada", "x"), ("ada", run.name, "../../person")):
        with pytest.raises(StoreError):
            workspace.portrait(*key)
    workspace.delete_portrait("ada", run.name, "1-0000")
    assert not run.exists()


def test_pages_follow_one_another_without_gap_or_repeat(workspace: Workspace) -> None:
    workspace.save_person("ada", person(), [])
    run = workspace.new_run("ada")
    for number in range(5):
        keep(workspace, run, portrait(f"7-{number:04d}"))
    seen, after = [], None
    while found := workspace.page("ada", after=after, limit=2):
        seen += [kept.key for kept in found]
        after = (found[-1].made.isoformat(timespec="microseconds"), found[-1].key)
    assert seen == [kept.key for kept in workspace.portraits("ada")]
    assert len(seen) == 5
    assert workspace.page(limit=9, kept=False) == ()
    assert len(workspace.page(limit=9, kept=True, call=Call.SAME, engine="template", run=run.name)) == 5
    assert workspace.page(limit=9, call=Call.OTHER) == ()
    assert workspace.page(limit=9, engine="lora") == ()
