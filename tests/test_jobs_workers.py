"""Workers that come, go, are killed and come again."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jobs_kit
import pytest
from jobs_kit import until
from test_jobs_queue import open_jobs

from facechain import bootstrap
from facechain.jobs import fleet, memory
from facechain.jobs.worker import work

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def env(tmp_path, models, monkeypatch):
    values = jobs_kit.environment(tmp_path / "workspace", models)
    monkeypatch.setenv("FACECHAIN_WORKSPACE", values["FACECHAIN_WORKSPACE"])
    monkeypatch.chdir(ROOT)
    return values


def test_a_fleet_has_a_worker_a_device_and_replaces_one_that_is_killed(env):
    code = "from facechain.jobs import fleet; fleet.run(['one', 'two'], [])"
    ours = subprocess.Popen([sys.executable, "-c", code], env=env)
    try:
        jobs = bootstrap.jobs()
        until(lambda: {worker.device for worker in jobs.workers()} == {"one", "two"})
        before = {worker.device: worker.pid for worker in jobs.workers()}
        os.kill(before["one"], signal.SIGKILL)
        until(lambda: {w.device: w.pid for w in jobs.workers()}.get("one", before["one"]) != before["one"])
        assert {w.device: w.pid for w in jobs.workers()}["two"] == before["two"]
        ours.terminate()
        assert ours.wait(timeout=60) == 0
        assert jobs.workers() == ()
    finally:
        ours.kill()


def test_workers_finish_what_waits_and_leave_when_their_server_is_killed(env):
    code = "import time; from facechain import bootstrap; bootstrap.start_workers(); time.sleep(600)"
    server = subprocess.Popen([sys.executable, "-c", code], env=env)
    jobs = bootstrap.jobs()
    until(jobs.workers)
    (worker,) = jobs.workers()
    assert bootstrap.start_workers() is None  # there are some
    waiting = [jobs.submit("judge", {"name": "nobody", "paths": []}) for _ in range(4)]
    jobs_kit.kill(server)
    until(lambda: not jobs.workers())
    assert all("nobody" in jobs.get(job.id).error for job in waiting)
    assert f"{waiting[-1].id} judge ended: failed" in (jobs.folder / ".jobs" / "worker-cpu.log").read_text()
    until(lambda: not Path(f"/proc/{worker.pid}").exists() or sys.platform != "linux")


def test_warm_models_are_dropped_when_memory_is_short(tmp_path, monkeypatch):
    jobs, dropped = open_jobs(tmp_path / "workspace"), []
    jobs.submit("count", {"to": str(tmp_path)})
    jobs.submit("count", {"to": str(tmp_path)})
    monkeypatch.setattr(memory, "free_bytes", lambda: memory.LOW_BYTES - 1)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    work(jobs, until_idle=True, release=lambda: dropped.append(1))
    for number, handler in before.items():
        signal.signal(number, handler)
    assert dropped == [1, 1]  # once a job: there is nothing to drop while idle


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA"), RuntimeError("std::bad_alloc")], ids=repr)
def test_a_job_that_finds_no_memory_says_so_and_gives_the_next_one_more(error, tmp_path, monkeypatch):
    jobs, dropped = open_jobs(tmp_path / "workspace"), []

    def starve(*_):
        raise error

    monkeypatch.setitem(jobs.kinds, "count", replace(jobs.kinds["count"], run=starve))  # pyright: ignore
    job = jobs.submit("count", {"to": str(tmp_path)})
    monkeypatch.setattr(memory, "free_bytes", lambda: memory.LOW_BYTES)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    work(jobs, until_idle=True, release=lambda: dropped.append(1))
    for number, handler in before.items():
        signal.signal(number, handler)
    assert jobs.get(job.id).error == "The machine ran out of memory."
    assert dropped == [1]


def test_release_really_lets_models_go(models, tmp_path, monkeypatch):
    import gc
    import weakref

    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models.absolute()))
    bootstrap.release()
    reader = weakref.ref(bootstrap.studio().tools.reader())
    assert bootstrap.studio().tools.reader() is reader()
    bootstrap.release()
    gc.collect()
    assert reader() is None


def test_a_worker_sees_only_its_own_device(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert fleet.only("cuda-1")["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert fleet.only("cuda-1")["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in fleet.only("cpu")
