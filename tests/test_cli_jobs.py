"""`facechain jobs` and `facechain batch`, as they are typed; nothing here needs a model."""

import csv
import json
import signal

import pytest
from api_kit import fill

from facechain import bootstrap
from facechain.cli import app, guarded


@pytest.fixture
def run(tmp_path, models, monkeypatch, capfd):
    """Runs `facechain ARGUMENTS` in this process; returns exit code, stdout, stderr."""
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models.absolute()))
    monkeypatch.setenv("FACECHAIN_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    bootstrap.studio.cache_clear()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def call(*arguments):
        capfd.readouterr()
        code = guarded(lambda: app([str(a) for a in arguments], standalone_mode=False))
        out, err = capfd.readouterr()
        return code, out, err

    yield call
    bootstrap.studio.cache_clear()
    for number, handler in before.items():  # a worker takes them over
        signal.signal(number, handler)


@pytest.fixture
def left(run):
    """Leaves portraits of Ada to a worker; returns the job's id."""

    def call(*arguments):
        code, out, err = run("make", "ada", "--style", "astronaut", *arguments, "--queue", "--json")
        assert code == 0, err
        return json.loads(out)["id"]

    return call


def test_jobs_are_listed_shown_moved_cancelled_and_retried(run, left):
    assert "No jobs yet" in run("jobs", "list")[1]
    fill("", ("ada",))
    first, second = left("--seed", 1), left("--seed", 2)
    code, out, _ = run("jobs", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "number" in line] == [second, first]
    assert "facechain jobs work" in out  # nobody works
    assert f"{first}: make, queued. number 1 in line" in run("jobs", "show", first)[1]

    assert "number 1 in line" in run("jobs", "move", second, 1)[1]
    assert json.loads(run("jobs", "show", first, "--json")[1])["position"] == 2
    assert f"{first}: cancelled." in run("jobs", "cancel", first)[1]
    listed = json.loads(run("jobs", "list", "--state", "cancelled", "--json")[1])["jobs"]
    assert [job["id"] for job in listed] == [first]
    assert "number 2 in line" in run("jobs", "retry", first)[1]
    assert json.loads(run("jobs", "show", first, "--json")[1])["attempt"] == 2


@pytest.mark.parametrize("arguments", [("show",), ("cancel",), ("retry",), ("move", 1), ("show", "--follow")], ids=str)
def test_a_job_there_is_not(run, arguments):
    verb, *more = arguments
    code, _, err = run("jobs", verb, "20260102-030405-0a1b2c", *more)
    assert code == 2
    assert "facechain jobs list" in err


def test_what_has_not_failed_is_not_retried(run, left):
    fill("", ("ada",))
    code, _, err = run("jobs", "retry", left())
    assert code == 2
    assert "Only what failed or was cancelled" in err


def test_who_is_not_here_is_refused_before_it_waits(run):
    code, _, err = run("make", "zoe", "--style", "astronaut", "--queue")
    assert code == 2
    assert "facechain people list" in err
    assert json.loads(run("jobs", "list", "--json")[1])["jobs"] == []


def test_a_batch_is_reported_here_and_by_a_worker(run, tmp_path):
    """Nobody it asks for is here, so that nothing need be painted."""
    (tmp_path / "people.csv").write_text("people,styles,count\nZoe,astronaut,2\nYan,astronaut,1\n")
    code, out, err = run("batch", "people.csv")
    assert code == 2
    assert "0 of 3 portraits are made" in out
    assert "3 portraits were missed" in err
    with (tmp_path / "people.report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["people"], row["missed"]) for row in rows] == [("Zoe", "2"), ("Yan", "1")]
    assert rows[0]["why"].startswith("There is no 'zoe")

    id = json.loads(run("batch", "people.csv", "--report", "again.json", "--queue", "--json")[1])["id"]
    assert run("jobs", "work", "--device", "cpu", "--until-idle")[0] == 0
    assert "0 of 3 portraits made" in run("jobs", "show", id)[1]
    assert [row["missed"] for row in json.loads((tmp_path / "again.json").read_text())] == [2, 1]


def test_a_batch_with_a_mistake_makes_nothing(run, tmp_path):
    (tmp_path / "people.csv").write_text("people,stlye\nAda,astronaut\n")
    code, _, err = run("batch", "people.csv")
    assert code == 2
    assert "line 2" in err
    assert not (tmp_path / "people.report.csv").exists()
