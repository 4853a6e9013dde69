"""The queue: what is asked for once is done once, in fair order, and what dies says what it was doing."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from store_kit import keep, person, portrait

from facechain.errors import ConfigError, Conflict, FaceChainError, Missing, UserError
from facechain.jobs import kinds, queue
from facechain.jobs.kinds import Kind
from facechain.jobs.queue import Jobs
from facechain.jobs.worker import work
from facechain.store.workspace import Workspace
from facechain.types import JobState

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Count:
    """Writes a file a step, as portraits are: those that are there are not written again."""

    to: str
    steps: int = 1
    pause_s: float = 0.0
    fail: str = ""
    who: str = "ada"
    seed: int | None = None


def count(hands, job, given, tick, show):
    folder = Path(given.to)
    for at in range(given.steps):
        tick("counting", at, given.steps)
        if given.fail:
            raise FaceChainError(given.fail, "Do better.")
        file = folder / f"{at}.txt"
        if not file.exists():
            file.write_text(job.id)
        show(file)
        time.sleep(given.pause_s)
    return {"steps": given.steps, "seed": given.seed}


class Hands:
    def __init__(self, home):
        self.home = home

    def folder(self, owner):
        return self.home / "users" / owner if owner else self.home

    def generation(self, owner):
        return Workspace(self.folder(owner)).generation()

    def seed(self):
        return 7

    def slug(self, name):
        return name.lower()


KINDS = {"count": Kind(arguments=Count, run=count, people=lambda given: (given.who,))}


def open_jobs(folder: Path) -> Jobs:
    return Jobs(folder, KINDS, Hands(folder))  # pyright: ignore


@pytest.fixture
def jobs(tmp_path):
    return open_jobs(tmp_path / "workspace")


@pytest.fixture(autouse=True)
def _signals():
    """A worker in this process takes over SIGTERM and Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def drain(jobs):
    return work(jobs, "cpu", until_idle=True)


def worker_process(folder: Path) -> subprocess.Popen:
    """A worker in a process of its own, by now holding its lock."""
    code = "import sys, pathlib, test_jobs_queue as t; t.work(t.open_jobs(pathlib.Path(sys.argv[1])), 'cpu')"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], env={**os.environ, "PYTHONPATH": path})


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def test_a_job_is_done_and_says_so(jobs, tmp_path):
    asked = jobs.submit("count", {"to": str(tmp_path), "steps": 3})
    assert (asked.state, asked.position, asked.arguments["seed"]) == (JobState.QUEUED, 1, 7)
    assert drain(jobs) == 1
    job = open_jobs(jobs.folder).get(asked.id)  # whoever opens the workspace later
    assert (job.state, job.result, job.stage) == (JobState.DONE, {"steps": 3, "seed": 7}, "counting")
    assert job.preview == str(tmp_path / "2.txt")
    assert job.position is None
    assert drain(jobs) == 0


def test_asking_twice_makes_one_job(jobs, tmp_path):
    first = jobs.submit("count", {"to": str(tmp_path)}, key="k")
    assert jobs.submit("count", {"to": str(tmp_path)}, key="k").id == first.id
    assert jobs.submit("count", {"to": str(tmp_path)}, owner="bob", key="k").id != first.id
    with pytest.raises(UserError, match="another job"):
        jobs.submit("count", {"to": str(tmp_path), "steps": 2}, key="k")
    assert len(jobs.list()) == 2


def test_what_cannot_be_understood_is_refused(jobs, tmp_path):
    with pytest.raises(UserError, match="no job of kind"):
        jobs.submit("cuont", {})
    with pytest.raises(ConfigError, match=r"stpes.*steps"):
        jobs.submit("count", {"to": "", "stpes": 2})
    with pytest.raises(UserError, match="no state"):
        jobs.list(states=["qeued"])
    assert jobs.list() == ()


def test_another_owners_job_is_no_job(jobs, tmp_path):
    job = jobs.submit("count", {"to": str(tmp_path)}, owner="bob")
    said = set()
    for verb in (jobs.get, jobs.cancel, jobs.retry, lambda id, owner: jobs.move(id, 1, owner)):
        with pytest.raises(UserError) as refused:
            verb(job.id, owner="eve")
        said.add(str(refused.value))
        with pytest.raises(UserError) as unknown:
            verb("nothing", owner="eve")
        said.add(str(unknown.value).replace("nothing", job.id))
    assert len(said) == 1
    assert jobs.list(owner="eve") == ()
    assert jobs.get(job.id).state is JobState.QUEUED


def test_users_take_turns(jobs, tmp_path):
    ids = {owner: [jobs.submit("count", {"to": str(tmp_path)}, owner).id for _ in range(n)] for owner, n in
           (("ann", 4), ("bob", 2), ("cy", 1))}  # fmt: skip
    expected = [ids["ann"][0], ids["bob"][0], ids["cy"][0], ids["ann"][1], ids["bob"][1], ids["ann"][2], ids["ann"][3]]
    told = {job.position: job.id for job in jobs.list()}
    assert [told[place] for place in sorted(told)] == expected
    drain(jobs)
    assert [job.id for job in sorted(jobs.list(), key=lambda job: job.started)] == expected


def test_moving_changes_the_order_of_ones_own(jobs, tmp_path):
    a, b, c = (jobs.submit("count", {"to": str(tmp_path)}).id for _ in range(3))
    assert jobs.move(c, 1).position == 1
    assert [jobs.get(id).position for id in (a, b, c)] == [2, 3, 1]
    assert jobs.move(c, 99).position == 3
    with pytest.raises(UserError, match="first place"):
        jobs.move(c, 0)


def test_a_waiting_job_is_cancelled_at_once_and_can_be_retried(jobs, tmp_path):
    job = jobs.submit("count", {"to": str(tmp_path)})
    assert jobs.cancel(job.id).state is JobState.CANCELLED
    assert drain(jobs) == 0
    assert not list(tmp_path.glob("*.txt"))
    assert jobs.retry(job.id).attempt == 2
    drain(jobs)
    assert jobs.get(job.id).state is JobState.DONE
    with pytest.raises(UserError, match="ended: done"):
        jobs.cancel(job.id)


def test_an_error_is_told_in_its_own_words(jobs, tmp_path):
    job = jobs.submit("count", {"to": str(tmp_path), "fail": "It broke."})
    drain(jobs)
    job = jobs.get(job.id)
    assert (job.state, job.error, job.next_step) == (JobState.FAILED, "It broke.", "Do better.")


def test_pages_hold_everything_once(jobs, tmp_path):
    ids = [jobs.submit("count", {"to": str(tmp_path)}).id for _ in range(7)]
    seen, before = [], None
    while page := jobs.list(limit=3, before=before):
        seen += [job.id for job in page]
        before = seen[-1]
    assert seen == ids[::-1]


def test_a_running_job_stops_within_a_second(jobs, tmp_path):
    job = jobs.submit("count", {"to": str(tmp_path), "steps": 1000, "pause_s": 0.05})
    worker = worker_process(jobs.folder)
    try:
        until(lambda: jobs.get(job.id).done)
        assert jobs.cancel(job.id).cancelling
        until(lambda: jobs.get(job.id).state is JobState.CANCELLED, 2)
        assert worker.poll() is None  # the worker itself goes on
    finally:
        worker.kill()
        worker.wait()


def test_a_killed_worker_is_told_of_and_nothing_is_done_twice(jobs, tmp_path):
    job = jobs.submit("count", {"to": str(tmp_path), "steps": 8, "pause_s": 0.2})
    worker = worker_process(jobs.folder)
    until(lambda: jobs.get(job.id).done >= 2)
    worker.kill()
    worker.wait()
    lost = jobs.get(job.id)
    assert lost.state is JobState.FAILED
    assert f"last seen counting ({lost.done} of 8)" in lost.error
    assert f"retry {job.id}" in lost.next_step
    assert jobs.workers() == ()
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.txt")}
    jobs.retry(job.id)
    drain(jobs)
    assert jobs.get(job.id).state is JobState.DONE
    after = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.txt")}
    assert len(after) == 8
    assert before.items() <= after.items()


def test_a_worker_sent_home_puts_its_job_back(jobs, tmp_path):
    job = jobs.submit("count", {"to": str(tmp_path), "steps": 30, "pause_s": 0.1})
    other = jobs.submit("count", {"to": str(tmp_path)})
    worker = worker_process(jobs.folder)
    until(lambda: jobs.get(job.id).done >= 2)
    worker.terminate()
    assert worker.wait(timeout=20) == 0
    job = jobs.get(job.id)
    assert (job.state, job.attempt, job.position) == (JobState.QUEUED, 1, 1)
    assert jobs.get(other.id).position == 2


def test_a_device_has_one_worker(jobs):
    with jobs.presence.working("cpu") as me:
        assert [worker.id for worker in jobs.workers()] == [me.id]
        with pytest.raises(UserError, match="already serves cpu"):
            drain(jobs)
    assert jobs.workers() == ()


def test_a_lost_message_is_made_up_for(jobs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jobs.bell, "ring", lambda: None)  # killed between the record and the message
        job = jobs.submit("count", {"to": str(tmp_path)})
    assert drain(jobs) == 1
    assert jobs.get(job.id).state is JobState.DONE


def test_forgetting_a_person_reaches_the_bytes(jobs, tmp_path):
    jobs.submit("count", {"to": str(tmp_path), "who": "Zerlina"})
    other = jobs.submit("count", {"to": str(tmp_path), "who": "Ada"})
    assert jobs.forget("", "zerlina") == 1
    assert b"erlina" not in (jobs.folder / "jobs.sqlite").read_bytes()
    assert [job.id for job in jobs.list()] == [other.id]


def test_the_index_is_made_anew_around_the_jobs(jobs, tmp_path):
    job = jobs.submit("count", {"to": str(tmp_path)})
    workspace = Workspace(jobs.folder)
    (jobs.folder / "people").mkdir()
    assert workspace.portraits() == ()
    workspace.rebuild()
    assert [known.id for known in jobs.list()] == [job.id]


def test_what_is_not_there_and_what_clashes_are_told_apart(jobs, tmp_path):
    with pytest.raises(Missing):
        jobs.get("nothing")
    job = jobs.submit("count", {"to": str(tmp_path)}, key="k")
    with pytest.raises(Conflict):
        jobs.submit("count", {"to": str(tmp_path), "steps": 2}, key="k")
    with pytest.raises(Conflict):
        jobs.retry(job.id)
    drain(jobs)
    for verb in (jobs.cancel, lambda id: jobs.move(id, 1)):
        with pytest.raises(Conflict):
            verb(job.id)


def test_jobs_and_index_share_a_file_without_locking_each_other_out(jobs, tmp_path):
    """The index reads and then writes; were its transaction begun by the reading, it could not wait for others."""
    workspace = Workspace(jobs.folder)
    workspace.save_person("ada", person("Ada"), [])
    run = workspace.new_run("ada")

    def submit():
        for _ in range(15):
            jobs.submit("count", {"to": str(tmp_path)})

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(submit) for _ in range(2)]
        for number in range(10):
            keep(workspace, run, portrait(f"1-{number:04d}"))
            assert len(workspace.portraits()) == number + 1
        for each in asking:
            each.result()
    assert len(jobs.list()) == 30


def test_many_are_looked_at_at_once(jobs, tmp_path):
    assert jobs.look(["nothing"]) == {}
    first, second = (jobs.submit("count", {"to": str(tmp_path)}) for _ in range(2))
    found = jobs.look([first.id, second.id, "nothing"])
    assert {id: job.position for id, job in found.items()} == {first.id: 1, second.id: 2}
    assert jobs.look([]) == {}


def test_a_job_taken_while_somebody_looks_is_shown_as_it_was(jobs, tmp_path, monkeypatch):
    """Its row is read first and its place in line after that; what happens in between must wait."""
    job = jobs.submit("count", {"to": str(tmp_path)})
    in_line, pool = queue.waiting, ThreadPoolExecutor(1)

    def taken_meanwhile(connection):
        taking.append(pool.submit(jobs.cancel, job.id))
        time.sleep(0.3)
        return in_line(connection)

    for look in (lambda: jobs.get(job.id), lambda: jobs.list()[0], lambda: jobs.look([job.id])[job.id]):
        taking: list = []
        with monkeypatch.context() as patch:
            patch.setattr(queue, "waiting", taken_meanwhile)
            seen = look()
        assert (seen.state, seen.position) == (JobState.QUEUED, 1)
        assert taking[0].result().state is JobState.CANCELLED
        jobs.retry(job.id)


def test_forgetting_a_person_takes_their_picture_out_of_a_batch(jobs, tmp_path):
    job = jobs.submit("count", {"to": "a table", "who": ""})
    folder = jobs.folder / "people" / "zerlina" / "portraits" / "batch"
    with jobs.database.writing() as connection:
        connection.execute("UPDATE jobs SET preview = ? WHERE id = ?", (str(folder / "7-0000.png"), job.id))
    assert jobs.forget("", "zer") == jobs.forget("bob", "zerlina") == 0
    assert jobs.get(job.id).preview
    assert jobs.forget("", "zerlina") == 0
    assert jobs.get(job.id).preview is None
    assert b"erlina" not in (jobs.folder / "jobs.sqlite").read_bytes()


def test_a_training_shows_what_it_has_painted_on_its_way(monkeypatch, tmp_path):
    monkeypatch.setattr(kinds, "SAMPLE_S", 0.0)
    samples, shown, ticks = [], [], []

    class Faces:
        def training(self, name):
            return SimpleNamespace(samples=tuple(samples))

        def train(self, name, base, settings, tick):
            for step in range(3):
                tick("learning", step, 3)
                samples.append(tmp_path / f"{step}.png")
            return SimpleNamespace(person=name, engine="lora", digest="d")

    hands = SimpleNamespace(studio=lambda owner: Faces())
    given = kinds.read(kinds.KINDS, "train", {"name": "Ada"})
    kinds.KINDS["train"].run(hands, SimpleNamespace(owner=""), given, lambda *at: ticks.append(at), shown.append)
    assert shown == [tmp_path / "0.png", tmp_path / "1.png"]
    assert len(ticks) == 3
