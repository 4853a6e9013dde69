"""Batches: what a table asks for is made once, whoever is stopped on the way, and the report says what became of it."""

import csv
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import store_kit

from facechain import bootstrap, disk
from facechain.errors import (
    Cancelled,
    ConfigError,
    Conflict,
    ConsentMissing,
    EngineError,
    FaceChainError,
    PersonMissing,
)
from facechain.jobs import batch, report, sheet
from facechain.jobs.batch import Done
from facechain.store.workspace import Workspace

STYLED = sheet.Defaults(styles=("plain",))


def orders(tmp_path, text, name="b.csv", given=STYLED):
    (tmp_path / name).write_text(text, "utf-8")
    return sheet.read(tmp_path / name, given)


# ── what a table asks for ────────────────────────────────────────────────────────────────────────


def test_people_times_styles_times_counts(tmp_path):
    found = orders(tmp_path, "people,styles,count\nAda; Bob+Cy,one;two,3\nDee,,\n")
    asked = [(order.line, order.people, order.style, order.count) for order in found]
    assert asked == [
        *((2, ("Ada",), style, 3) for style in ("one", "two")),
        *((2, ("Bob", "Cy"), style, 3) for style in ("one", "two")),
        (3, ("Dee",), "plain", 4),
    ]
    assert len({order.run for order in found}) == len({order.seed for order in found}) == 5


def test_csv_of_a_spreadsheet_and_json_lines_ask_for_the_same(tmp_path):
    table = orders(tmp_path, "\ufeffperson;style;count;settings\nAda;one;2;strength=0.5\n")
    line = '{"people": "Ada", "styles": ["one"], "count": 2, "settings": {"strength": 0.5}}\n'
    lines = orders(tmp_path, line, "b.jsonl")
    assert [(o.run, o.seed) for o in table] == [(o.run, o.seed) for o in lines]


def test_settings_of_a_cell(tmp_path):
    (order,) = orders(tmp_path, "people,settings\nAda,lora=a.safetensors:0.5; steps=3;lora=b.safetensors;\n")
    assert order.settings == {"lora": ["a.safetensors:0.5", "b.safetensors"], "steps": 3}


def test_the_same_table_is_the_same_batch_and_a_higher_count_goes_on(tmp_path):
    one, again = (orders(tmp_path, f"people,count\nAda,{count}\n")[0] for count in (2, 5))
    assert (one.run, one.seed) == (again.run, again.seed)
    other = orders(tmp_path, "people,count\nAda,2\n", given=sheet.Defaults(styles=("plain",), seed=1))[0]
    assert other.run != one.run
    twice = orders(tmp_path, "people\nAda\nAda\n")
    assert twice[0].run != twice[1].run


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("people,stlye\nAda,x\n", "line 2.*stlye"),
        ("people,count\nAda,many\n", "line 2.*many"),
        ("people,count\nAda,0\n", "line 2.*count is 0"),
        ("people\nAda,x\n", "line 2.*more cells"),
        ("people,settings\nAda,steps=1;steps=2\n", "line 2.*steps is given twice"),
        ("people,settings\nAda,steps\n", "line 2.*not a setting"),
        ("styles\nx\n", "line 2.*people"),
        ("people\n", "asks for nothing"),
    ],
)
def test_a_table_with_a_mistake_is_refused_by_line(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says):
        orders(tmp_path, text)


def test_a_folder_a_person_with_a_consent_of_their_own(tmp_path):
    for name in ("Ada", "Bob"):
        (tmp_path / "all" / name).mkdir(parents=True)
    (tmp_path / "all" / "Ada" / "consent.toml").write_text('by = "Ada L."\npurpose = "work"\n')
    ada, bob = sheet.read(tmp_path / "all", STYLED)
    assert (ada.people, ada.consent_by, ada.purpose) == (("Ada",), "Ada L.", "work")
    assert ada.photos == str(tmp_path / "all" / "Ada")
    assert (bob.consent_by, bob.purpose) == ("", "")


# ── what becomes of it ───────────────────────────────────────────────────────────────────────────


class Painter:
    """A studio whose pictures are numbers: enough to see what is painted, how often, and what is kept."""

    def __init__(self, folder, names=("Ada", "Bob"), breaks=lambda index: None):
        self.tools = SimpleNamespace(workspace=Workspace(folder))
        self.painted, self.enrolled, self.breaks = [], [], breaks
        for name in names:
            if not (folder / "people" / name.lower()).exists():
                self.tools.workspace.save_person(name.lower(), store_kit.person(name), [])

    def person(self, name):
        return self.tools.workspace.load_person(name.lower())

    def people_here(self):
        return self.tools.workspace.list_people()

    def enrol(self, name, paths, *, consent_by, purpose, since, tick):
        if not (consent_by and purpose):
            raise ConsentMissing("No consent.", "Give it.")
        self.tools.workspace.save_person(name.lower(), store_kit.person(name), [], since)
        self.enrolled.append((name, consent_by))

    def prepare(self, request, template, format, tick):
        if request.style == "none":
            raise EngineError("There is no such style.", "Take another.")
        ids = [f"{request.seed}-{index:04d}" for index in range(request.count)]
        return SimpleNamespace(
            request=request,
            since=self.tools.workspace.generation(),
            id=ids.__getitem__,
            missing=lambda stored: [at for at, id in enumerate(ids) if id not in stored],
        )

    def folder(self, sitting, run):
        return self.tools.workspace.new_run(sitting.request.people[0].lower(), run)

    def stored(self, folder):
        return {kept.id: kept for kept in self.tools.workspace.run(folder)}

    def shoot(self, sitting, indexes):
        for index in indexes:
            self.breaks(index)
            self.painted.append((sitting.request.people, index))
            yield store_kit.portrait(sitting.id(index), sitting.request.people)

    def store(self, sitting, folder, portrait, format):
        return store_kit.keep(self.tools.workspace, folder, portrait)

    def choose(self, sitting, folder):
        kept = self.tools.workspace.run(folder)
        return SimpleNamespace(results=kept, folder=folder)


def run(studio, found, tmp_path, crew=None, tick=lambda *_: None):
    return batch.run(found, studio, crew or batch.alone(studio), tmp_path / "report.csv", tick=tick)


def test_stopped_anywhere_the_same_batch_finishes_and_paints_nothing_twice(tmp_path):
    found = orders(tmp_path, "people,count\nAda;Bob,4\n")
    painted, outcomes = [], ()
    for more in (1, 3, 2, 99):
        last = len(painted) + more

        def tick(stage, done, total, last=last):
            if done >= last:
                raise Cancelled

        studio = Painter(tmp_path / "workspace")
        try:
            outcomes = run(studio, found, tmp_path, tick=tick)
        except Cancelled:
            outcomes = ()
        painted += studio.painted
    assert sorted(painted) == [((name,), index) for name in ("Ada", "Bob") for index in range(4)]
    assert [(o.asked, o.made, o.missed) for o in outcomes] == [(4, 4, 0)] * 2
    assert len(studio.tools.workspace.portraits()) == 8


def test_what_cannot_be_done_is_reported_and_the_rest_is_done(tmp_path):
    def breaks(index):
        if index == 2:
            raise FaceChainError("The paint ran out.", "Buy some.")

    text = "people,styles,count,photos,consent_by,purpose\nAda,plain,4,,,\nBob,none,1,,,\nEve,plain,1,eve,,\n"
    text += "Dee,plain,1,dee,Dee,fun\nNobody,plain,2,,,\n"
    studio = Painter(tmp_path / "workspace", breaks=breaks)
    outcomes = run(studio, orders(tmp_path, text), tmp_path)
    assert [(o.made, o.missed) for o in outcomes] == [(2, 2), (0, 1), (0, 1), (1, 0), (0, 2)]
    assert "The paint ran out. Buy some." in outcomes[0].why
    assert "no such style" in outcomes[1].why
    assert "consent.toml" in outcomes[2].why
    assert studio.enrolled == [("Dee", "Dee")]
    with (tmp_path / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["people"] for row in rows] == ["Ada", "Bob", "Eve", "Dee", "Nobody"]
    assert [int(row["missed"]) for row in rows] == [2, 1, 1, 0, 2]


def test_what_a_killed_batch_left_of_its_report_is_written_over(tmp_path, monkeypatch):
    studio, found = Painter(tmp_path / "workspace"), orders(tmp_path, "people,count\nAda,1\n")
    with monkeypatch.context() as patch:
        patch.setattr(disk, "move", lambda part, target: None)  # killed before that
        report.write(tmp_path / "report.csv", (), "digest")
    assert list(tmp_path.glob(".report.csv.*"))
    report.write(tmp_path / "report.csv", (), "digest")
    run(studio, found, tmp_path)
    assert not list(tmp_path.glob(".report.csv.*"))


def test_a_crew_may_finish_in_any_order(tmp_path):
    studio = Painter(tmp_path / "workspace")

    def backwards(tasks, pulse):
        for task in reversed(list(tasks)):
            for index in reversed(task.indexes):
                yield Done(task=task, indexes=(index,), judged=tuple(studio.shoot(task.sitting, [index])))

    outcomes = run(studio, orders(tmp_path, "people,count\nAda;Bob,3\n"), tmp_path, backwards)
    assert [(o.people, o.made) for o in outcomes] == [("Ada", 3), ("Bob", 3)]


def test_somebody_forgotten_meanwhile_stays_forgotten(tmp_path):
    studio = Painter(tmp_path / "workspace")

    def breaks(index):
        if index == 1:
            studio.tools.workspace.forget("ada")

    studio.breaks = breaks
    (outcome,) = run(studio, orders(tmp_path, "people,count\nAda,3\n"), tmp_path)
    assert (outcome.made, outcome.missed) == (0, 3)
    with pytest.raises(PersonMissing):
        studio.person("Ada")


def test_a_batch_runs_once_at_a_time(tmp_path):
    studio = Painter(tmp_path / "workspace")
    found = orders(tmp_path, "people,count\nAda,1\n")

    def tick(stage, done, total):
        with pytest.raises(Conflict, match="already"):
            run(Painter(tmp_path / "workspace"), found, tmp_path)

    run(studio, found, tmp_path, tick=tick)


def test_a_person_is_lent_without_photos_and_portraits(tmp_path):
    ours, theirs = bootstrap.studio_at(tmp_path / "ours"), bootstrap.studio_at(tmp_path / "theirs")
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"a photo")
    crops = (store_kit.crop(0, hashlib.sha256(b"a photo").hexdigest()),)
    ours.tools.workspace.save_person("ada", store_kit.person("ada", crops=crops), [photo])
    run = ours.tools.workspace.new_run("ada")
    store_kit.keep(ours.tools.workspace, run, store_kit.portrait("1-0000", ("ada",)))
    theirs.borrow("ada", ours.lend("ada"))
    mine, lent = ours.person("ada"), theirs.person("ada")
    assert lent.consent == mine.consent
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(mine.crops, lent.crops, strict=True))
    assert theirs.portraits() == ()
    assert not list((theirs.tools.workspace.folder / "people" / "ada" / "photos").iterdir())
