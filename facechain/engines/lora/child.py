"""Training in a process of its own: its memory goes with it, and it may run on several processors.

The child writes one JSON line an event. To have pictures scored it writes where they are and reads the answer from
its input; when the parent is gone the answer never comes, and the child ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facechain import errors
from facechain.engines.lora.job import Job, read_job
from facechain.engines.lora.likeness import Score
from facechain.engines.lora.train import Say, train
from facechain.errors import EngineError, FaceChainError
from facechain.protocols import Tick, silent
from facechain.types import Pixels

MARK = "@facechain "  # before our lines: libraries may print too
_ERROR = re.compile(r"(?:\[rank\d+\]: )?(?:facechain\.errors\.\w+: (.+)|(?:\w+\.)*([A-Z]\w*Error\b.*))")
_SIGNAL = re.compile(r"Signal \d+ \((SIG\w+)\)")
_ENDED_BY = "the process was ended by"
_POLL_S = 0.5
_LEAVE_S = 30


def train_in_child(
    job: Job,
    score: Score | None = None,
    tick: Tick = silent,
    say: Say = lambda line: None,
    aside: bool = True,
    processes: int = 1,
) -> Path:
    """As `train`, elsewhere; what the child refuses is raised here as it was there.

    Raises EngineError with the last event and the reason when the child ends otherwise than with a result.
    """
    if job.done:
        return job.result
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    asked = ["--score"] * (score is not None) + ["--aside"] * aside
    command = [sys.executable, *launcher, "-m", "facechain.engines.lora.child", str(job.folder), *asked]
    log = job.folder / "child.log"
    with log.open("wb") as printed:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, text=True, start_new_session=True
        )
        last, refusal = "the start", None
        try:
            for event in _events(child, tick):
                if "score" in event:
                    assert score is not None
                    _answer(child, score(_read_pictures(Path(event["score"]))))
                elif "say" in event:
                    say(event["say"])
                elif "refused" in event:
                    kind, what, next_step = event["refused"]
                    refusal = getattr(errors, kind)(what, next_step)
                else:
                    last = f"{event['stage']} {event['done']} of {event['total']}"
            with contextlib.suppress(subprocess.TimeoutExpired):  # what counts is whether a result is there
                child.wait(timeout=_LEAVE_S)
        finally:
            _end(child)
    if not job.done:
        if refusal is not None:
            raise refusal
        reason = _reason(child.returncode, log)
        raise EngineError(f"Training ended after {last}: {reason}.", _next_step(reason, log))
    return job.result


def _events(child: subprocess.Popen[str], tick: Tick) -> Any:
    """The child's events as they come; `tick` hears of progress, and between events too, so that it can cancel."""
    lines: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=listen, daemon=True).start()
    at = ("preparing", 0, 1)
    while True:
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            tick(*at)
            continue
        if line is None:
            return
        if not line.startswith(MARK):
            continue
        event = json.loads(line.removeprefix(MARK))
        if "stage" in event:
            at = (event["stage"], event["done"], event["total"])
            tick(*at)
        yield event


def _answer(child: subprocess.Popen[str], found: Sequence[float | None]) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died while we looked: its events end, and so does the training
        child.stdin.write(json.dumps(found) + "\n")
        child.stdin.flush()


def _end(child: subprocess.Popen[str]) -> None:
    """However we leave, the child and those it started are gone."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(timeout=_LEAVE_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _reason(code: int, log: Path) -> str:
    """The signal that ended the process, else the last error it or one of its workers printed."""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    told = [found[1] or found[2] for line in lines if (found := _ERROR.match(line)) and "ChildFailedError" not in line]
    if code >= 0 and told:
        return told[-1].rstrip(".")
    ended = signal.Signals(-code).name if code < 0 else next((s[1] for s in map(_SIGNAL.search, lines) if s), "")
    if ended:
        return f"{_ENDED_BY} {ended}" + (", perhaps for lack of memory" if ended == "SIGKILL" else "")
    return lines[-1].rstrip(".") if lines else f"exit code {code}"


def _next_step(reason: str, log: Path) -> str:
    """Running it again helps only where something outside of the training ended it."""
    if reason.startswith(_ENDED_BY):
        return "Run it again: it goes on."
    if re.search(r"OutOfMemory|out of memory|MemoryError|bad_alloc", reason):
        return "Ask for less memory, e.g. --set batch=1 or a smaller resolution_px; what was learned is kept."
    return f"Internal error: report it with {log}."


def _read_pictures(path: Path) -> list[Pixels]:
    return list(np.load(path, allow_pickle=False))


# ── in the child ─────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0])
    first = os.environ.get("RANK", "0") == "0"

    def tell(**event: Any) -> None:
        if first:
            print(MARK + json.dumps(event), flush=True)

    def score(pictures: Sequence[Pixels]) -> list[float | None]:
        path = folder / "to_score.npy"
        np.save(path, np.stack(pictures))
        tell(score=str(path))
        answer = sys.stdin.readline()
        if not answer:
            raise EngineError("The program that started this training is gone.", "Run it again: it goes on.")
        return json.loads(answer)

    try:
        train(
            read_job(folder),
            score if "--score" in arguments else None,
            lambda stage, done, total: tell(stage=stage, done=done, total=total),
            lambda line: tell(say=line),
            aside="--aside" in arguments,
        )
    except FaceChainError as error:
        tell(refused=(type(error).__name__, error.what, error.next_step))
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
