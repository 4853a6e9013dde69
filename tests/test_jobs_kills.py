"""Workers killed at work, as a power cut or a full memory would: nothing is lost, doubled or half there."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jobs_kit
import pytest
from jobs_kit import until
from PIL import Image

from facechain import bootstrap
from facechain.cli import app, guarded
from facechain.types import JobState

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


@pytest.fixture
def env(workspace, models, monkeypatch):
    values = jobs_kit.environment(workspace, models)
    for name in ("FACECHAIN_WORKSPACE", "FACECHAIN_MODELS", "FACECHAIN_OFFLINE"):
        monkeypatch.setenv(name, values[name])
    monkeypatch.chdir(ROOT)
    bootstrap.studio.cache_clear()
    return values


@pytest.fixture
def ada(env, workspace, models):
    if not (workspace / "people" / "ada").exists():
        photos = [models / "demo-photos" / name for name in ("obama.jpg", "obama2.jpg", "obama3.jpg")]
        bootstrap.studio().enrol("ada", photos, consent_by="Ada", purpose="tests")
    return "ada"


@pytest.fixture
def left(env, capfd):
    """Leaves a job in the queue as a person would; returns its id."""

    def call(*arguments):
        capfd.readouterr()
        assert guarded(lambda: app([*map(str, arguments), "--queue", "--json"], standalone_mode=False)) == 0
        return json.loads(capfd.readouterr().out)["id"]

    return call


def pictures(workspace, id):
    """The run's portraits as the workspace lists them; every one is whole."""
    found = [kept for kept in bootstrap.studio().portraits("ada") if kept.run == id]
    for kept in found:
        with Image.open(kept.path) as picture:
            picture.load()
    return found


def test_a_killed_make_goes_on_where_it_was(env, ada, left, workspace):
    id = left("make", ada, "--style", "astronaut", "--count", 5, "--keep", 5, "--seed", 3)
    jobs = bootstrap.jobs()
    assert jobs.get(id).state is JobState.QUEUED
    worker = jobs_kit.start(env)
    until(lambda: jobs.get(id).stage == "painting" and jobs.get(id).done >= 2)
    jobs_kit.kill(worker)
    lost = jobs.get(id)
    assert lost.state is JobState.FAILED
    assert f"last seen painting ({lost.done} of 5)" in lost.error
    before = {kept.id: kept.path.stat().st_mtime_ns for kept in pictures(workspace, id)}
    assert len(before) >= 2

    assert jobs.retry(id).attempt == 2
    assert jobs_kit.start(env, "--until-idle").wait(timeout=200) == 0
    assert jobs.get(id).state is JobState.DONE, jobs.get(id).error
    after = {kept.id: kept.path.stat().st_mtime_ns for kept in pictures(workspace, id)}
    assert sorted(after) == [f"3-{index:04d}" for index in range(5)]
    assert before.items() <= after.items()  # not painted again
    assert not [left for left in (workspace / ".staging").iterdir() if left.is_dir()]


def test_a_running_make_stops_at_its_next_step(env, ada, left, workspace):
    id = left("make", ada, "--style", "astronaut", "--count", 200, "--seed", 4)
    jobs, worker = bootstrap.jobs(), jobs_kit.start(env)
    try:
        until(lambda: jobs.get(id).stage == "painting" and jobs.get(id).done >= 1)
        jobs.cancel(id)
        painted = len(pictures(workspace, id))
        until(lambda: jobs.get(id).state is JobState.CANCELLED)
        assert len(pictures(workspace, id)) <= painted + 2  # what was being stored then, and what was being painted
        assert worker.poll() is None
    finally:
        jobs_kit.kill(worker)


def test_a_killed_batch_is_finished_by_the_same_command(env, ada, workspace, tmp_path):
    table = tmp_path / "people.csv"
    table.write_text(f"people,styles,count,keep\n{ada},astronaut,4,4\n")
    command = [*jobs_kit.COMMAND, "batch", str(table), "--json"]

    def made():
        return {path: path.stat().st_mtime_ns for path in workspace.glob("people/*/portraits/batch-*/*.png")}

    running = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    until(lambda: len(made()) >= 2)
    jobs_kit.kill(running)
    before = made()
    said = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    assert [(outcome["made"], outcome["missed"]) for outcome in said["outcomes"]] == [(4, 0)]
    assert len(made()) == 4
    assert len(before.items() & made().items()) >= len(before) - 1  # one may have been between picture and sidecar
    for path in made():
        with Image.open(path) as picture:
            picture.load()


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint(env, ada, left, workspace, tmp_path):
    pytest.importorskip("diffusers")
    import tiny

    quick = ("steps=60", "resolution_px=64", "rank=2", "checkpoint_every=5", "validate_every=60")
    few = ("validation_pictures=1", "validation_steps=1")
    options = [word for value in (*quick, *few) for word in ("--set", value)]
    id = left("train", ada, "--base", tiny.sd15(tmp_path / "base"), *options)
    jobs, worker = bootstrap.jobs(), jobs_kit.start(env)
    until(lambda: jobs.get(id).stage == "learning" and jobs.get(id).done >= 10)
    jobs_kit.kill(worker)
    lost = jobs.get(id)
    assert lost.state is JobState.FAILED
    assert "last seen learning" in lost.error
    jobs.retry(id)
    worker = jobs_kit.start(env)
    seen = set()
    for job in jobs.watch(id):
        seen |= {job.done} if job.stage == "learning" else set()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    assert jobs.get(id).state is JobState.DONE, jobs.get(id).error
    assert min(seen) > 0  # not from the beginning


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_a_hundred_kills_lose_and_double_nothing(env):
    """About half an hour; prints what it saw."""
    subprocess.run([sys.executable, "scripts/bench_kills", "--kills", "100", "--no-write"], check=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_killed_node_loses_nothing_and_pictures_do_not_depend_on_workers(env):
    pytest.importorskip("ray")
    few = ["--shots", "24", "--side", "128", "--no-write"]
    subprocess.run([sys.executable, "scripts/bench_batch", *few], check=True)
