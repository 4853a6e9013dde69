"""The best checkpoint, in every format, all at once."""

from __future__ import annotations

import json
import shutil

from facechain.engines.lora import memory
from facechain.engines.lora.export import DIFFUSERS, WEBUI, write_kohya, write_peft
from facechain.engines.lora.job import Job, read_examples, write_whole
from facechain.engines.lora.learner import Learner
from facechain.engines.lora.likeness import Curve, Point, Score
from facechain.engines.lora.validate import candidate, keep_curve, sample


def finish(job: Job, learner: Learner, losses: list[float], curve: Curve, score: Score | None, planned: int) -> int:
    """Writes the result; one process does, the others wait. Returns the most bytes that were in use."""
    accelerator, adapters = learner.accelerator, learner.adapters
    measured = memory.peak(accelerator.device)
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        return measured
    if adapters.ema is not None:
        adapters.ema.copy_to(list(adapters.named().values()))
    step, of = _choose(job, learner, curve, score) if curve.points else (len(losses), [])
    notes = {
        "title": job.subject,
        "subject": job.subject,
        "class_words": job.class_words,
        "base": job.base.title,
        "step": step,
        "steps_averaged": of,
        "photos": len(read_examples(job.folder)),
        "likeness": {p.step: p.likeness for p in curve.points}.get(step),
        "memory": {"planned_bytes": planned, "peak_bytes": measured},
        **{name: getattr(job.settings, name) for name in ("seed", "resolution_px", "learning_rate", "optimizer")},
    }
    part = job.folder / ".result.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    write_peft(adapters, part / DIFFUSERS, notes)
    write_kohya(learner.pipe, adapters, part / WEBUI, notes)
    if curve.points:
        keep_curve(job, curve, step)
    write_whole(part / "result.json", json.dumps({**notes, "losses": losses}, indent=1).encode())
    shutil.rmtree(job.result, ignore_errors=True)
    part.rename(job.result)
    accelerator.wait_for_everyone()
    return measured


def _choose(job: Job, learner: Learner, curve: Curve, score: Score | None) -> tuple[int, list[int]]:
    """Loads the best weights, or the mean of the best few where that is no worse.

    Returns their step, and the steps they are the mean of, if several.
    """
    best = curve.best(job.settings.average_best)
    states = [candidate(job, point.step) for point in best]
    if len(states) > 1 and score is not None:
        learner.adapters.load({name: sum(s[name] for s in states) / len(states) for name in states[0]})
        mean = Point(step=best[0].step, each=tuple(score(sample(job, learner))))
        if mean.likeness >= best[0].likeness:
            return best[0].step, [point.step for point in best]
    learner.adapters.load(states[0])
    return best[0].step, []
