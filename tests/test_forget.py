"""Forgetting wins over whatever is under way, and afterwards no byte tells of the person."""

import hashlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import store_kit
from PIL import Image
from test_batch import Painter, orders
from test_batch import run as run_batch
from test_jobs_queue import Hands

from facechain import bootstrap, cli
from facechain.engines.diffusion.base import BaseRef
from facechain.engines.lora.job import Job, write_job
from facechain.engines.lora.settings import TrainSettings
from facechain.errors import PersonExists, PersonForgotten, PersonMissing
from facechain.jobs import kinds, log, retention
from facechain.jobs.queue import Jobs
from facechain.store import tombstones
from facechain.store import workspace as workspaces
from facechain.store.workspace import Traces, Workspace
from facechain.ui.desk import Desk
from facechain.ui.phrases import Words
from facechain.ui.tabs import people

NAME, SLUG = "Zerlina", "zerlina"
TRACES = (b"zerlina", b"photo5", b"photo6", b"photo7")


def remains(folder: Path) -> list[str]:
    """Files whose name or bytes tell of the person."""
    found = []
    for path in folder.rglob("*"):
        told = str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b"")
        if any(trace in told.lower() for trace in TRACES):
            found.append(str(path.relative_to(folder)))
    return found


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    workspace.save_person("ada", store_kit.person("Ada"), [])
    return workspace


# ── what is under way ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["read", "half written", "written"])
def test_an_enrolment_under_way_does_not_bring_somebody_back(workspace, monkeypatch, when):
    def forget():
        with pytest.raises(PersonMissing):  # not here yet, and so all the more to be stopped
            workspace.forget(SLUG)

    def write(folder, person, originals):
        write_person(folder, person, originals)
        if when != "read":
            forget()
            assert remains(workspace.folder) == []
        if when == "half written":
            (folder / "photos" / "late.jpg").write_bytes(b"photo7")

    write_person, since = workspaces.write_person, workspace.generation()
    monkeypatch.setattr(workspaces, "write_person", write)
    if when == "read":
        forget()
    with pytest.raises(PersonForgotten, match="forgotten"):
        workspace.save_person(SLUG, store_kit.person(NAME, 5), [], since)
    monkeypatch.undo()
    assert remains(workspace.folder) == []
    workspace.save_person(SLUG, store_kit.person(NAME, 5), [])  # with a consent given after that, they may come again
    with pytest.raises(PersonExists):
        workspace.check_free(SLUG)


@pytest.mark.parametrize("again", [False, True], ids=["gone", "enrolled anew"])
def test_a_portrait_under_way_is_not_stored(workspace, again):
    """Nor when somebody of the same name is here by then: what was painted is the face of before."""
    workspace.save_person(SLUG, store_kit.person(NAME, 5), [])
    run, since = workspace.new_run("ada"), workspace.generation()
    portrait = store_kit.portrait("1-0000", ("Ada", NAME))

    def write(to: Path) -> None:
        Image.fromarray(portrait.pixels).save(to)
        workspace.forget(SLUG)
        assert not to.exists()
        if again:
            workspace.save_person(SLUG, store_kit.person(NAME, 20), [])

    with pytest.raises(PersonForgotten):
        workspace.save_portrait(run, portrait, (), "png", write, since)
    assert workspace.portraits() == ()
    if not again:
        assert remains(workspace.folder) == []


def test_a_training_does_not_make_the_folder_of_somebody_again(workspace, tmp_path):
    workspace.save_person(SLUG, store_kit.person(NAME, 5), [])
    folder, since = workspace.learned(SLUG) / "0123", workspace.generation()
    base = BaseRef(path=tmp_path, name="base")
    job = Job(folder=folder, base=base, settings=TrainSettings(), subject="ohwx person", class_words="person")
    workspace.forget(SLUG)
    with pytest.raises(PersonForgotten), workspace.under_way((SLUG,), since):
        write_job(job, [])
    assert remains(workspace.folder) == []


def test_a_running_batch_does_not_enrol_somebody_again(tmp_path):
    studio = Painter(tmp_path / "workspace", names=("Ada",))
    text = "people,styles,count,photos,consent_by,purpose\n"
    text += "".join(f"Dee,{style},2,dee,Dee,fun\n" for style in ("plain", "grey"))

    def breaks(index):
        if index == 1 and studio.tools.workspace.list_people()[-1].slug == "dee":
            studio.tools.workspace.forget("dee")

    studio.breaks = breaks
    outcomes = run_batch(studio, orders(tmp_path, text), tmp_path)
    assert [outcome.made for outcome in outcomes] == [0, 0]
    assert "forgotten" in outcomes[1].why
    assert [person.slug for person in studio.people_here()] == ["ada"]
    run_batch(studio, orders(tmp_path, text.replace(",2,", ",1,")), tmp_path)  # asked for anew, it enrols
    assert [person.slug for person in studio.people_here()] == ["ada", "dee"]


def test_a_tombstone_names_nobody_and_expires_without_a_gap(workspace, monkeypatch):
    since = workspace.generation()
    workspace.save_person(SLUG, store_kit.person(NAME, 5), [])
    workspace.forget(SLUG)
    assert remains(workspace.folder) == []
    later = time.time() + tombstones.KEPT_S + 1
    monkeypatch.setattr(tombstones.time, "time", lambda: later)
    with pytest.raises(PersonMissing):
        workspace.forget("somebody-else")
    assert len(json.loads((workspace.folder / ".forgotten.json").read_bytes())["forgotten"]) == 1
    for slug in (SLUG, "bob"):  # nobody can tell any more whether they were
        with pytest.raises(PersonForgotten):
            workspace.check_free(slug, since)
    workspace.check_free(SLUG, workspace.generation())


def test_a_workspace_that_was_removed_takes_nothing_from_before(workspace):
    """Such as that of a user, or of a guest who has left, while their job runs."""
    since = workspace.generation()
    shutil.rmtree(workspace.folder)
    with pytest.raises(PersonForgotten):
        workspace.save_person(SLUG, store_kit.person(NAME, 5), [], since)
    assert remains(workspace.folder) == []


# ── jobs and the pictures they were given ────────────────────────────────────────────────────────


@pytest.fixture
def jobs(workspace: Workspace) -> Jobs:
    unchecked = {name: replace(kind, check=lambda *_: None) for name, kind in kinds.KINDS.items()}
    return Jobs(workspace.folder, unchecked, Hands(workspace.folder))  # pyright: ignore


def upload(jobs: Jobs, room: str, batch: str, *names: str) -> list[str]:
    folder = jobs.folder / room / batch
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(f"bytes of {name}".encode())
    return [str((folder / name).absolute()) for name in names]


def done(jobs: Jobs, kind: str, result: object = None, state: str = "done", **arguments: object) -> str:
    job = jobs.submit(kind, arguments)
    with jobs.database.writing() as connection:
        connection.execute(
            "UPDATE jobs SET state = ?, ended = ?, result = ? WHERE id = ?",
            (state, time.time(), json.dumps(result), job.id),
        )
    return job.id


def forget(jobs: Jobs) -> int:
    """As the studio does, of somebody with one photo."""
    traces = Traces(
        names=frozenset({NAME, SLUG}), photo_ids=frozenset({"photo5"}), photo_names=frozenset({"Zerlina 5.jpg"})
    )
    return jobs.forget("", SLUG, traces)


ENROL = {"name": NAME, "consent_by": NAME, "purpose": "tests"}


@pytest.mark.parametrize("room", ["uploads", "drops"])
@pytest.mark.parametrize("state", ["queued", "running", "done", "failed"])
def test_after_forget_no_job_and_no_upload_tells_of_somebody(jobs, room, state):
    mine = upload(jobs, room, "0" * 16, "zerlina1.jpg", "zerlina2.jpg", "group.jpg")
    other = upload(jobs, room, "1" * 16, "other.jpg")
    done(jobs, "check", {"accepted": [{"photo_name": "zerlina1.jpg", "caption": "zerlina smiles"}]}, paths=mine)
    done(jobs, "sort", {"persons": [["zerlina1.jpg"], ["group.jpg"]]}, paths=mine)
    done(jobs, "check", {"accepted": [{"photo_id": "photo5", "photo_name": "a.jpg"}]}, paths=other)
    done(jobs, "enrol", state=state, paths=mine[:2], **ENROL)
    done(jobs, "make", people=["Ada", NAME], template=mine[2])
    kept = done(jobs, "check", {"accepted": [{"photo_id": "photo9", "photo_name": "ada.jpg"}]}, paths=["/x/ada.jpg"])
    assert forget(jobs) == 2
    assert remains(jobs.folder) == []
    assert [job.id for job in jobs.list()] == [kept]
    assert not list((jobs.folder / room).iterdir())


def test_an_upload_that_another_waiting_job_needs_stays_for_it(jobs):
    paths = upload(jobs, "drops", "0" * 16, "zerlina1.jpg", "bob.jpg")
    done(jobs, "enrol", paths=paths[:1], **ENROL)
    jobs.submit("enrol", {**ENROL, "name": "Bob", "consent_by": "Bob", "paths": paths[1:]})
    forget(jobs)
    assert remains(jobs.folder) == []
    assert Path(paths[1]).is_file()


def test_what_a_job_about_many_says_of_somebody_goes(jobs):
    job = done(jobs, "batch", file="/tables/all.csv", state="failed")
    with jobs.database.writing() as connection:
        connection.execute("UPDATE jobs SET error = 'There is no ''Zerlina'' here.', next_step = 'Add Zerlina.'")
    forget(jobs)
    assert remains(jobs.folder) == []
    assert "forgotten" in jobs.get(job).error


def test_uploads_of_pages_and_of_the_api_go_by_one_rule(jobs, monkeypatch):
    served = upload(jobs, "uploads", "0" * 16, "a.jpg") + upload(jobs, "drops", "1" * 16, "b.jpg")
    shown = upload(jobs, "drops", "2" * 16, "c.jpg")
    waiting = upload(jobs, "uploads", "3" * 16, "d.jpg") + upload(jobs, "drops", "4" * 16, "e.jpg")
    upload(jobs, "drops", "5" * 16, "nobody asked.jpg")
    done(jobs, "enrol", paths=served, **ENROL)
    looked = done(jobs, "check", {"accepted": []}, paths=shown)
    jobs.submit("sort", {"paths": waiting})

    def left():
        return sorted(path.parent.name[0] for path in jobs.folder.glob("*/*/*.jpg"))

    jobs.sweep("")
    assert left() == ["2", "3", "4", "5"]
    later = time.time() + retention.KEPT_S + 60
    monkeypatch.setattr(retention.time, "time", lambda: later)
    jobs.sweep("")
    assert left() == ["3", "4"]  # what waits in line is there when its turn comes
    assert looked not in [job.id for job in jobs.list()]


def test_the_log_of_workers_tells_no_names_and_does_not_grow(tmp_path, monkeypatch):
    missing = "people/zerlina"
    monkeypatch.setattr(log, "LOG_BYTES", 2000)
    before = log.log.handlers[:], log.log.propagate, log.log.level
    (tmp_path / "worker.log").write_text("Zerlina, of an earlier version")
    try:
        log.write_to(tmp_path, "cpu")
        for _ in range(100):
            try:
                raise FileNotFoundError(missing)
            except FileNotFoundError:
                log.log.exception("%s %s", "20260102-030405-0a1b2c", "make")
    finally:
        for handler in set(log.log.handlers) - set(before[0]):
            log.log.removeHandler(handler)
            handler.close()
        log.log.propagate, log.log.level = before[1:]
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["worker-cpu.log", *(f"worker-cpu.log.{n + 1}" for n in range(log.KEPT))]
    assert remains(tmp_path) == []
    assert "FileNotFoundError" in files[0].read_text()
    assert all(path.stat().st_size <= 3000 and path.stat().st_mode & 0o077 == 0 for path in files)


# ── damage, and a disk without room ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"name": 7}', b"\xff\xfe"])
def test_damaged_files_of_others_are_named_and_stop_nothing(workspace, damage):
    workspace.save_person(SLUG, store_kit.person(NAME, 5), [])
    workspace.save_person("bob", store_kit.person("Bob", 9), [])
    run = workspace.new_run("bob")
    for id in ("1-0000", "1-0001"):
        store_kit.keep(workspace, run, store_kit.portrait(id, ("Bob", NAME)))
    run_of_ada = workspace.new_run("ada")
    store_kit.keep(workspace, run_of_ada, store_kit.portrait("2-0000"))
    (workspace.folder / "people/bob/person.json").write_bytes(damage)
    (run / "1-0000.json").write_bytes(damage)
    (workspace.folder / "people/stray").mkdir()
    assert [person.slug for person in workspace.list_people()] == ["ada", SLUG]
    assert [one.slug for one in workspace.damaged_people()] == ["bob", "stray"]
    assert [one.slug for one in workspace.damaged_portraits()] == ["bob"]
    assert [kept.id for kept in workspace.portraits()] == ["2-0000", "1-0001"]
    assert [kept.id for kept in workspace.run(run)] == ["1-0001"]
    store_kit.keep(workspace, run_of_ada, store_kit.portrait("2-0001"))
    assert workspace.forget(SLUG) == 2
    assert remains(workspace.folder) == []
    for slug in ("bob", "stray"):
        workspace.forget(slug)
    assert workspace.damaged_people() == ()


def test_a_full_disk_does_not_stop_forgetting(workspace, monkeypatch):
    workspace.save_person(SLUG, store_kit.person(NAME, 5), [])
    store_kit.keep(workspace, workspace.new_run(SLUG), store_kit.portrait("1-0000", (NAME,)))
    assert workspace.portraits()
    full = [True]

    def write(path, data):
        if full[0]:
            raise OSError(28, "No space left on device")
        store(path, data)

    def move(part, target):
        raise OSError(28, "No space left on device")

    def rmtree(path, **given):
        full[0] = False  # which makes room
        remove(path, **given)

    store, remove = workspaces.disk.write, shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(tombstones.disk, "write", write)
        patch.setattr(workspaces.shutil, "rmtree", rmtree)
        patch.setattr(workspaces.Workspace, "_records", lambda *_: (_ for _ in ()).throw(workspaces.StoreError("full")))
        patch.setattr(workspaces.disk, "move", lambda part, target: move(part, target) if full[0] else None)
        assert workspace.forget(SLUG) == 1
    assert remains(workspace.folder) == []
    assert workspace.portraits() == ()


def test_a_damaged_person_has_a_place_on_the_page_and_in_the_list(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    workspace = Workspace(tmp_path)
    for slug in ("ada", "bob"):
        workspace.save_person(slug, store_kit.person(slug), [])
    for crop in (tmp_path / "people/ada/crops").iterdir():
        crop.write_bytes(b"PK")
    (tmp_path / "people/bob/person.json").write_bytes(b"{")
    bootstrap.studio.cache_clear()
    page = people._people(Desk(owner="", w=Words()), "ada")
    bootstrap.studio.cache_clear()
    assert "The files of bob are damaged" in page
    assert "The files of ada are damaged" in page
    assert page.count('data-do="forget"') == 2
    assert cli.guarded(lambda: cli.app(["people", "list"], standalone_mode=False)) == 0
    told = capsys.readouterr()
    assert "ada" in told.out
    assert "people forget bob" in told.err
    bootstrap.studio.cache_clear()


def test_photo_ids_are_known_of_a_damaged_person(workspace):
    home = workspace.folder / "people/ada"
    (home / "person.json").write_bytes(b"{")
    next(home.glob("crops/*.npz")).write_bytes(b"PK")
    assert {"photo0", "photo1", "photo2"} == workspace.traces("ada").photo_ids


# ── for the user's eyes alone ────────────────────────────────────────────────────────────────────


def test_files_are_the_users_alone_also_those_of_an_earlier_version(tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photo")
    crop = store_kit.crop(1, hashlib.sha256(b"a photo").hexdigest())
    folder = tmp_path / "new" / "workspace"
    workspace = Workspace(folder)
    workspace.save_person("ada", store_kit.person("Ada", crops=(crop,)), [photo])
    assert workspace.portraits() == ()
    jobs = Jobs(folder, kinds.KINDS, Hands(folder))  # pyright: ignore
    jobs.submit("judge", {"name": "Ada", "paths": []})
    with jobs.presence.working("cpu"):
        assert _open_to_others(folder) == []
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert len(_open_to_others(folder)) > 10
    Workspace(folder)
    assert _open_to_others(folder) == []


def _open_to_others(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
