"""What scripts can call by name with `gradio_client`; the REST API under /v1 offers more."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from facechain import bootstrap
from facechain.limits import PORTRAITS, SEED, whole
from facechain.types import Job
from facechain.ui import results
from facechain.ui.desk import Shop


def add(shop: Shop) -> None:
    """To be called inside the page's Blocks."""

    def people(request: gr.Request) -> list[dict[str, Any]]:
        """Everybody, with how many photos and portraits."""
        found = shop.desk(request).faces.people()
        return [{"name": p.name, "photos": p.photos, "held_out": p.held_out, "portraits": p.portraits} for p in found]

    def styles(request: gr.Request) -> list[dict[str, Any]]:
        """The looks; those with `into_picture` need no Stable Diffusion."""
        found = shop.desk(request).faces.styles()
        return [{"id": s.id, "title": s.title, "group": s.group, "into_picture": bool(s.template_pack)} for s in found]

    def engines(request: gr.Request) -> list[dict[str, Any]]:
        """Ways to paint, and what each lacks here."""
        found = shop.desk(request).faces.engines()
        return [{"name": o.card.name, "title": o.card.title, "state": o.state} for o in found]

    def make(
        person: str, style: str, engine: str, count: float, seed: float | None, request: gr.Request
    ) -> dict[str, Any]:
        """Asks for portraits; returns the job to ask about with /job. An empty engine is the default one."""
        desk = shop.desk(request)
        number = None if seed is None else whole("seed", seed, 0, SEED)
        many = whole("count", count, 1, PORTRAITS)
        given = results.arguments([person], style=style, engine=engine, count=many, seed=number)
        return _told(desk.submit("make", given))

    def job(id: str, request: gr.Request) -> dict[str, Any]:
        """How far a job is."""
        return _told(shop.desk(request).job(id))

    def cancel(id: str, request: gr.Request) -> dict[str, Any]:
        """Stops a job at its next step."""
        return _told(bootstrap.jobs().cancel(id, shop.desk(request).owner))

    def portraits(run: str, request: gr.Request) -> list[dict[str, Any]]:
        """What was made, newest first; `run` is the id of the job that made them, empty for all."""
        found = shop.desk(request).faces.portraits()
        return [
            {
                "key": p.key,
                "picture": f"/pictures/portrait/{p.key}",
                "people": list(p.people),
                "kept": p.verdicts[0].kept,
                "likeness": [verdict.likeness for verdict in p.verdicts],
                "call": [verdict.call.value for verdict in p.verdicts],
            }
            for p in found
            if run in ("", p.run)
        ]

    for endpoint in (people, styles, engines, make, job, cancel, portraits):
        api(shop.guarded(endpoint), api_name=endpoint.__name__, queue=False)


def _told(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "stage": job.stage,
        "done": job.done,
        "total": job.total,
        "error": job.error,
        "next_step": job.next_step,
    }
