"""Photos whose orientation got lost, animations that begin black, RAW files: read at every door, with a note."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from raw_kit import dng

from facechain import bootstrap
from facechain.api import schemas
from facechain.cli import app, guarded
from facechain.engines.table import ENGINES
from facechain.errors import PhotoError
from facechain.jobs.kinds import KINDS
from facechain.photos import read as reading
from facechain.photos.album import look
from facechain.photos.intake import Tools, intake
from facechain.photos.notes import TEXTS, note
from facechain.photos.read import check_header, later_frames, read
from facechain.photos.upright import find_faces, turned
from facechain.protocols import Identity
from facechain.studio import Studio
from facechain.types import NoteKind, Photo, Request
from facechain.ui import names_zh
from facechain.ui.phrases import Words
from facechain.ui.tabs import people, template
from facechain.vision.readers import READERS

AGREED = {"consent_by": "Test Person", "purpose": "tests"}
TURNED = TEXTS[NoteKind.TURNED]


class Counting:
    """The default reader, counting how often it looks."""

    def __init__(self, models):
        self._reader, self.looks = READERS["yunet_sface"](lambda pack, file: models / pack / file), 0
        self.upright_score = self._reader.upright_score
        self.recogniser, self.embed, self.read = self._reader.recogniser, self._reader.embed, self._reader.read

    def detect(self, pixels):
        self.looks += 1
        return self._reader.detect(pixels)


@pytest.fixture(scope="module")
def reader(models):
    return Counting(models)


@pytest.fixture(scope="module")
def lost(models, tmp_path_factory):
    """Official portraits without EXIF, turned clockwise by 90°, 180° and 270°; the name says by how much."""
    folder = tmp_path_factory.mktemp("lost")
    for name, degrees in (("obama", 90), ("obama2", 180), ("obama3", 270)):
        picture = Image.open(models / "demo-photos" / f"{name}.jpg").convert("RGB")
        picture.rotate(-degrees, expand=True).save(folder / f"{degrees}.jpg", quality=95)
    return folder


def samples(models):
    return [
        *sorted((models / "demo-photos").glob("*.jpg")),
        *sorted((models / "johns").glob("*/*.jpg"))[::5],
        models / "solvay" / "solvay_conference_1927.jpg",
        models / "astronaut" / "astronaut.png",
    ]


# ── turned ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("quarters", range(4))
def test_only_photos_that_were_turned_are_turned_back(models, reader, quarters):
    for path in samples(models):
        photo = read(path)
        found = find_faces(replace(photo, pixels=turned(photo.pixels, quarters)), reader)
        assert (found.photo.pixels.shape, found.quarters) == (photo.pixels.shape, -quarters % 4), path.name
        assert found.faces
        told = [said.text for said in found.photo.notes]
        assert told == [TURNED.format(detail=90 * found.quarters)] * bool(quarters)


def test_upright_photos_are_looked_at_once(models, reader):
    before, paths = reader.looks, sorted((models / "demo-photos").glob("obama*.jpg"))
    for path in paths:
        find_faces(read(path), reader, path)
    assert reader.looks - before == len(paths)


@pytest.mark.parametrize("kind", ["black", "noise", "stripes", "suit"])
def test_a_picture_without_a_face_stays_as_it_is(models, reader, kind):
    pixels = {
        "black": lambda: np.zeros((300, 400, 3), np.uint8),
        "noise": lambda: np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8),
        "stripes": lambda: np.tile(np.arange(400, dtype=np.uint8)[None, :, None], (300, 1, 3)),
        "suit": lambda: read(models / "demo-photos" / "obama.jpg").pixels[800:],
    }[kind]()
    photo = Photo(id="", name="a.png", pixels=np.ascontiguousarray(pixels))
    found = find_faces(photo, reader)
    assert found.photo is photo
    assert (found.faces, found.quarters) == ((), 0)


def test_turned_photos_of_one_person_and_of_several_are_learned_from(models, lost, tmp_path):
    reader = READERS["yunet_sface"](lambda pack, file: models / pack / file)
    tools = Tools(reader=reader, landmarker=_landmarker(models))
    beside = np.hstack([read(models / "demo-photos" / f"{n}.jpg").pixels[:900, :880] for n in ("obama3", "biden")])
    group = tmp_path / "group.png"
    Image.fromarray(turned(beside, 1)).save(group)
    result = intake([*sorted(lost.glob("*.jpg")), group], tools)
    assert [crop.photo_name for crop in result.crops] == ["180.jpg", "270.jpg", "90.jpg", "group.png"]
    assert [crop.notes[0].detail for crop in result.crops] == ["180", "90", "270", "270"]
    upright = intake([models / "demo-photos" / "obama.jpg"], tools).crops[0]
    likeness = upright.face.embedding.vector @ result.crops[2].face.embedding.vector
    assert likeness > 0.98
    assert abs(result.crops[2].face.pose.roll_deg) < 5


def _landmarker(models):
    from facechain.vision.landmarker import Landmarker

    return Landmarker(models / "landmarker" / "face_landmarker.task")


def test_an_album_tells_turned_photos_apart_at_full_size(models, reader, lost, tmp_path):
    large = tmp_path / "large.jpg"
    Image.open(lost / "90.jpg").resize((2274, 1820)).save(large)
    (seen,) = look([large], reader)
    (face,) = seen.faces
    (whole,) = reader.read(turned(read(large).pixels, 3))
    assert [said.detail for said in seen.notes] == ["270"]
    assert np.abs(face.box_px - whole.box_px).max() < 0.05 * whole.width_px
    assert float(face.embedding.vector @ whole.embedding.vector) > 0.97


# ── animations ───────────────────────────────────────────────────────────────────────────────────


def animation(path, frames):
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=40)
    return path


@pytest.fixture(scope="module")
def small(models):
    return np.asarray(Image.open(models / "demo-photos" / "obama.jpg").convert("RGB").resize((227, 284)))


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif", ".tif"])
@pytest.mark.parametrize("quarters", [0, 1])
def test_the_first_frame_with_a_face_is_used(reader, small, tmp_path, suffix, quarters):
    face = turned(small, quarters)
    path = animation(tmp_path / f"a{suffix}", [np.zeros_like(face), np.full_like(face, 9), face, 255 - face])
    found = find_faces(read(path), reader, path)
    assert len(found.faces) == 1
    assert np.abs(found.photo.pixels.astype(int) - small).mean() < 12
    kinds = [NoteKind.TURNED] * quarters + [NoteKind.LATER_FRAME]
    assert [(said.kind, said.detail) for said in found.photo.notes][-1] == (NoteKind.LATER_FRAME, "3")
    assert [said.kind for said in found.photo.notes] == kinds


def test_the_search_for_a_frame_is_bounded(reader, small, tmp_path, monkeypatch):
    path = animation(tmp_path / "a.gif", [np.full_like(small, level) for level in range(0, 80, 10)] + [small])
    assert find_faces(read(path), reader, path).faces
    monkeypatch.setattr(reading, "MAX_FRAMES", 5)
    assert [number for number, _ in later_frames(path)] == [2, 3, 4, 5]
    assert not find_faces(read(path), reader, path).faces
    monkeypatch.setattr(reading, "MAX_PIXELS", 3 * small.shape[0] * small.shape[1])
    assert [number for number, _ in later_frames(path)] == [2, 3]


def test_a_damaged_animation_and_the_depth_map_of_a_jpeg_have_no_later_frames(small, tmp_path):
    whole = animation(tmp_path / "a.gif", [small, 255 - small])
    cut = tmp_path / "cut.gif"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    assert list(later_frames(cut)) == []
    assert list(later_frames(tmp_path / "gone.gif")) == []
    phone = tmp_path / "a.jpg"
    Image.fromarray(small).save(phone, "MPO", save_all=True, append_images=[Image.fromarray(255 - small)])
    assert list(later_frames(phone)) == []


# ── RAW ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.dng", "a.NEF", "a.tif", "a.jpg"])
@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_raw_file_is_read_by_its_preview(models, tmp_path, name, orientation, quarters):
    picture = Image.open(models / "demo-photos" / "obama.jpg").convert("RGB")
    stored = Image.fromarray(turned(np.asarray(picture), -quarters % 4))
    path = tmp_path / name
    path.write_bytes(dng(stored, orientation))
    check_header(path)
    photo = read(path)
    assert photo.pixels.shape == (1137, 910, 3)
    assert np.abs(photo.pixels.astype(int) - np.asarray(picture)).mean() < 4
    renamed = [note(NoteKind.OTHER_FORMAT, "RAW")] * (path.suffix in (".tif", ".jpg"))
    assert photo.notes == (*renamed, note(NoteKind.RAW_PREVIEW, f"{stored.width} × {stored.height}"))


@pytest.mark.parametrize(
    "content",
    [dng(None), dng(Image.new("RGB", (320, 240))), b"II*\0" + bytes(99), b"FUJIFILMCCD-RAW " + bytes(99), b"IIRO" * 9],
)
def test_a_raw_file_without_a_preview_says_what_to_do(tmp_path, content):
    path = tmp_path / "a.dng"
    path.write_bytes(content)
    for refuse in (read, check_header):
        with pytest.raises(PhotoError) as caught:
            refuse(path)
        assert "a.dng is a RAW file" in caught.value.what
        assert "Export a JPEG" in caught.value.next_step


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.97])
def test_a_raw_file_cut_short_is_refused(models, tmp_path, keep):
    data = dng(Image.open(models / "demo-photos" / "obama.jpg").convert("RGB"))[: -2 * 64 * 64]
    path = tmp_path / "a.dng"
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(PhotoError, match=r"a\.dng"):
        read(path)


# ── doors ────────────────────────────────────────────────────────────────────────────────────────


class Painter:
    """An engine that follows a pose and begins from a picture, and need not paint here."""

    card = ENGINES["instantid"].card

    def check(self, style, options):
        pass

    def learn(self, person, tick):
        return Identity(person=person.name, engine=self.card.name, digest="", data=None)


@pytest.fixture(scope="module")
def studio(models, lost, tmp_path_factory):
    """With a person made of turned photos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACECHAIN_WORKSPACE", str(tmp_path_factory.mktemp("workspace")))
        patch.setenv("FACECHAIN_MODELS", str(models))
        bootstrap.studio.cache_clear()
        made = bootstrap.studio()
        made.enrol("Ada", [lost], **AGREED)
        yield made
    bootstrap.studio.cache_clear()


def details(notes):
    return {name: [said.detail for said in told] for name, told in notes.items()}


def test_the_person_keeps_the_notes(studio):
    expected = {"90.jpg": ["270"], "180.jpg": ["180"], "270.jpg": ["90"]}
    kept = studio.photos("Ada")
    assert details({photo.name: photo.notes for photo in kept}) == expected
    person = studio.person("Ada")
    assert details({crop.photo_name: crop.notes for crop in (*person.crops, *person.held_out)}) == expected
    assert schemas.Photo.of(kept[0]).notes[0].text in {TURNED.format(detail=d) for d in (90, 180, 270)}
    for word in (Words(), Words(language="zh")):
        assert f"{kept[0].notes[0].detail}°" in people._photo(word, "Ada", kept[0])


def test_sorting_and_judging_tell(studio, lost, models):
    paths = [lost, models / "demo-photos" / "obama.jpg"]
    assert details(studio.sort_album(paths).notes) == {"90.jpg": ["270"], "180.jpg": ["180"], "270.jpg": ["90"]}
    results = {result.id: result for result in studio.judge(paths, "Ada")}
    assert {result.verdicts[0].call.value for result in results.values()} == {"same person"}
    assert [results[name].notes for name in ("obama.jpg",)] == [()]
    assert results["90.jpg"].notes[0].detail == "270"


def test_a_template_is_painted_upright(studio, models, lost):
    made = studio.make(
        Request(people=("Ada",), engine="template", count=1, seed=1), template=lost / "90.jpg", format="png"
    )
    picture = Image.open(made.results[0].path)
    assert picture.size == Image.open(models / "demo-photos" / "obama.jpg").size
    assert details(made.notes) == {"90.jpg": ["270"]}
    boxes, ratio, told = template._boxes(SimpleNamespace(faces=studio), lost / "90.jpg")
    assert (len(boxes), round(ratio, 2), told[0]["detail"]) == (1, 0.8, "270")


def test_pose_and_start_are_followed_upright_and_the_mask_with_them(studio, lost, tmp_path):
    stored = read(lost / "90.jpg").pixels
    mask = np.zeros_like(stored)
    mask[: len(mask) // 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    painter = Studio(studio.app, {}, replace(studio.tools, engine=lambda name, base, train: Painter()))
    request = Request(people=("Ada",), engine="instantid", count=1)
    prepared = painter.prepare(request, pose={"": lost / "180.jpg"}, start=lost / "90.jpg", mask=tmp_path / "mask.png")
    options = prepared.request.options
    left_eye, right_eye, nose, *_ = options["face_points"]
    assert left_eye[0] < right_eye[0]
    assert left_eye[1] < nose[1]
    assert (options["init_image"].pixels == turned(stored, 3)).all()
    assert (options["mask"].pixels == turned(mask, 3)).all()
    assert details(prepared.notes) == {"180.jpg": ["180"], "90.jpg": ["270"]}


def test_jobs_and_pages_tell(studio, lost):
    hands = SimpleNamespace(studio=lambda owner: studio)
    job, given = SimpleNamespace(owner="", id="run"), {"paths": [str(lost / "90.jpg")]}

    def result(kind, **arguments):
        chosen = KINDS[kind].arguments(**{**given, **arguments})
        return json.loads(json.dumps(KINDS[kind].run(hands, job, chosen, lambda *tick: None, print)))

    text = TURNED.format(detail=270)
    checked = result("check")
    assert checked["accepted"][0]["notes"] == [{"kind": "turned", "detail": "270", "text": text}]
    for kind in ("sort", "judge"):
        told = result(kind, **({"name": "Ada"} if kind == "judge" else {}))
        assert told["notes"]["90.jpg"][0]["text"] == text
    shown = SimpleNamespace(id="a", result=checked)
    assert text in people._outcomes(Words(), shown, "0" * 16, {"90.jpg"})
    shown = SimpleNamespace(id="a", result=result("sort"))
    assert text in people._persons(Words(), shown, "0" * 16, {"90.jpg"}, [])


def test_the_command_line_tells(studio, lost, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert guarded(lambda: app(["photos", "check", str(lost / "90.jpg")], standalone_mode=False)) == 0
    assert TURNED.format(detail=270) in capsys.readouterr().out
    assert guarded(lambda: app(["judge", str(lost / "90.jpg"), "--person", "Ada"], standalone_mode=False)) == 0
    assert f"note on 90.jpg: {TURNED.format(detail=270)}" in capsys.readouterr().out


def test_every_note_has_words_in_both_languages():
    assert set(TEXTS) == set(names_zh.NOTES) == set(NoteKind)
    for kind in NoteKind:
        said = vars(note(kind, "42"))
        assert "42" in Words().note(said)
        assert "42" in Words(language="zh").note(said)
        assert Words().note(said) != Words(language="zh").note(said)
