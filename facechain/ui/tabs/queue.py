"""Queue: every job of the owner, what it does, and what can be done about it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from facechain import bootstrap
from facechain.types import Job, JobState
from facechain.ui.desk import OPEN, Desk, Shop
from facechain.ui.html import asked, badge, board, button, empty, esc, failure, go, progress, seconds
from facechain.ui.phrases import Words

KINDS = ("enrol", "train", "make", "judge", "fetch", "check", "sort", "batch")
_STATES = {JobState.DONE: "good", JobState.FAILED: "bad"}


def build(shop: Shop) -> None:
    shown = board("queue")
    shop.watch.add(shown, _shown, kinds=KINDS, live=True, sign=lambda desk: len(bootstrap.jobs().workers()))

    def on_shown(request: gr.Request, event: gr.EventData) -> Any:
        desk, (do, id, _) = shop.desk(request), asked(event)
        jobs = bootstrap.jobs()
        if do == "cancel":
            jobs.cancel(id, desk.owner)
        elif do == "retry":
            jobs.retry(id, desk.owner)
        elif do == "first":
            jobs.move(id, 1, desk.owner)
        desk.changed()
        return _shown(desk)

    shop.on(shown.click, on_shown, None, [shown])


def title(w: Words, job: Job) -> str:
    given = job.arguments
    if job.kind == "make":
        return w(
            "job.make", people=", ".join(given.get("people", ())), count=given.get("budget") or given.get("count", 0)
        )
    if job.kind in ("check", "sort"):
        return w(f"job.{job.kind}", count=len(given.get("paths", ())))
    if job.kind in ("enrol", "train", "judge"):
        return w(f"job.{job.kind}", name=given.get("name", ""))
    if job.kind == "fetch":
        return w("job.fetch", packs=", ".join(given.get("ids", ())) or given.get("set", "") or "core")
    return w("job.batch")


def _shown(desk: Desk) -> str:
    w, jobs = desk.w, desk.recent()
    if not jobs:
        return empty(w("queue.empty"), w("queue.empty.next"), go(w("tab.create"), w("create.make")))
    workers = len(bootstrap.jobs().workers())
    hands = badge(w("queue.workers", count=workers), "good" if workers else "warn")
    under_way = [job for job in jobs if job.state in OPEN]
    waiting = sorted(under_way, key=lambda job: (job.state is JobState.QUEUED, job.position or 0))
    now = "".join(_open(w, job) for job in waiting) or f'<p class="muted">{esc(w("queue.idle"))}</p>'
    ended = "".join(_ended(w, job) for job in jobs if job.state not in OPEN)
    return (
        f'<section class="panel"><div class="panel-head"><h3>{esc(w("queue.now"))}</h3>{hands}</div>{now}</section>'
        f'<section class="panel"><h3>{esc(w("queue.before"))}</h3><div class="jobs">{ended or "–"}</div></section>'
    )


def _open(w: Words, job: Job) -> str:
    first = button("first", w("queue.first"), job.id, "small") if (job.position or 0) > 1 else ""
    return progress(w, job, title(w, job), bytes_=job.kind == "fetch") + first


def _ended(w: Words, job: Job) -> str:
    took = seconds(w, (job.ended - job.started).total_seconds()) if job.started and job.ended else ""
    when = f"{job.ended.astimezone():%Y-%m-%d %H:%M}" if job.ended else ""
    why = failure(w, job) if job.state is JobState.FAILED else ""
    again = (
        button("retry", w("job.retry"), job.id, "small") if job.state in (JobState.FAILED, JobState.CANCELLED) else ""
    )
    return (
        f'<div class="job-row">{badge(w(f"state.{job.state.value}"), _STATES.get(job.state, ""))}<span>'
        f"<strong>{esc(title(w, job))}</strong>"
        f'<small class="muted">{esc(" · ".join(filter(None, (when, took))))}</small>'
        f"{f'<small>{esc(why)}</small>' if why else ''}</span>{again}</div>"
    )
