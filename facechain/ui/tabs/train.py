"""Train: the photos used, settings in plain words, the curve of likeness as it grows, and going on after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from facechain import bootstrap
from facechain.errors import UserError
from facechain.limits import SEED
from facechain.people.names import slug
from facechain.types import JobState
from facechain.ui.desk import OPEN, Desk, Shop
from facechain.ui.engines import default_base, machine_line, offers
from facechain.ui.fields import choices, optional
from facechain.ui.html import asked, badge, board, empty, esc, facts, go, notice, progress, url
from facechain.ui.phrases import Words

if TYPE_CHECKING:
    from facechain.store.workspace import Training

# What the plain words mean; anything else keeps the engine's own default.
EFFORTS: dict[str, dict[str, float]] = {
    "quick": {"effort": 0.5, "rank": 8},  # of the steps that are usual for the base
    "usual": {},
    "thorough": {"effort": 2, "rank": 32, "average_best": 2},
}


def build(shop: Shop) -> None:
    w = shop.w
    with gr.Row(equal_height=False, elem_classes="split"):
        with gr.Column(scale=5, min_width=320):
            gr.HTML(f'<p class="muted">{esc(w("train.intro"))}</p>')
            nobody = board("train-nobody")
            person = gr.Dropdown(choices=[], label=w("train.person"), elem_id="train-person")
            photos = board("train-photos")
            effort = gr.Radio(
                [(w(f"train.{name}"), name) for name in EFFORTS],
                value="usual",
                label=w("train.effort"),
                info=w("train.effort.help"),
            )
            base = gr.Textbox(
                "", label=w("create.base"), info=w("train.base.help", base=default_base(w)), elem_id="train-base"
            )
            with gr.Accordion(w("create.advanced"), open=False):
                with gr.Row():
                    steps = optional(w, "train.count", int, 1, 100_000, elem_id="train-steps")
                    rank = optional(w, "train.rank", int, 1, 256)
                    seed = optional(w, "create.seed", int, 0, SEED)
                with gr.Row():
                    size = optional(w, "train.resolution", int, 64, 2048)
                    rate = optional(w, "train.rate", float, 1e-7, 1)
            start = gr.Button(w("train.start"), variant="primary", size="lg", elem_id="train-start")
        with gr.Column(scale=7, min_width=320):
            shown = board("train-shown")
    hidden = gr.State("")  # a training that ended badly and was closed

    shop.watch.add(nobody, _nobody, kinds=("enrol",))
    shop.watch.add(person, _choices, [person], kinds=("enrol",))
    shop.watch.add(photos, _photos, [person], kinds=("enrol",))
    shop.watch.add(shown, _shown, [person, hidden], kinds=("train",), live=True)
    shop.draw(person.change, lambda desk, name: (_photos(desk, name), _shown(desk, name)), [person], [photos, shown])

    def on_start(request: gr.Request, name: str, how: str, base: str, *given: str) -> str:
        desk = shop.desk(request)
        if not name:
            raise UserError(w("create.need.person"), "")
        base = desk.check_base(base)
        if stands := _obstacle(desk, base):
            raise UserError(stands, "")
        chosen = {key: field.read(w, text) for (key, field), text in zip(finer.items(), given, strict=True)}
        settings = {**EFFORTS[how], **{key: value for key, value in chosen.items() if value is not None}}
        desk.submit("train", {"name": name, "base": base, "settings": settings})
        return _shown(desk, name)

    shop.look_at(start.click, "train-shown")
    finer = {"steps": steps, "rank": rank, "seed": seed, "resolution_px": size, "learning_rate": rate}
    shop.on(start.click, on_start, [person, effort, base, *(field.box for field in finer.values())], [shown])

    def on_shown(request: gr.Request, event: gr.EventData, name: str, closed: str) -> Any:
        desk, (do, id, _) = shop.desk(request), asked(event)
        if do == "cancel":
            bootstrap.jobs().cancel(id, desk.owner)
        elif do == "retry":
            bootstrap.jobs().retry(id, desk.owner)
        elif do == "dismiss":
            closed = id
        desk.changed()
        return _shown(desk, name, closed), closed

    shop.on(shown.click, on_shown, [person, hidden], [shown, hidden])


def _nobody(desk: Desk) -> str:
    w = desk.w
    if desk.faces.people():
        return ""
    return empty(w("create.nobody"), w("train.nobody.next"), go(w("tab.people"), w("people.add")))


def _choices(desk: Desk, chosen: str) -> Any:
    names = [person.name for person in desk.faces.people()]
    return choices(names, chosen, chosen if chosen in names else next(iter(names), None), visible=bool(names))


def _photos(desk: Desk, name: str) -> str:
    """Those learned from; the judge's are left out."""
    w = desk.w
    if name not in {person.name for person in desk.faces.people()}:
        return ""
    photos = [photo for photo in desk.faces.photos(name) if not photo.held_out]
    shown = "".join(
        f'<img src="{url("pictures", "photo", slug(name), photo.id, w=160)}" alt="{esc(photo.name)}" loading="lazy">'
        for photo in photos
    )
    few = notice(w("train.few"), "warn") if len(desk.faces.photos(name)) < 3 else ""
    return (
        f'<p class="field-title">{esc(w("train.photos", count=len(photos)))}</p><div class="strip">{shown}</div>{few}'
    )


def _obstacle(desk: Desk, base: str) -> str:
    """Why nothing can be trained here yet; empty when it can."""
    offer = next(offer for offer in offers(desk, base) if offer.card.learns == "by training")
    if offer.needs_packages:
        return desk.w("train.no_torch")
    return offer.base_problem or desk.w("train.no_base") if offer.needs_base else ""


def _shown(desk: Desk, name: str, hidden: str = "") -> str:
    w = desk.w
    job = next((job for job in desk.recent("train") if job.arguments.get("name") == name), None)
    job = None if job and job.id == hidden and job.state not in OPEN else job
    known = name in {person.name for person in desk.faces.people()}
    training = desk.faces.training(name) if known else None
    working = progress(w, job, w("job.train", name=name)) if job and job.state is not JobState.DONE else ""
    if training is None:
        stands = _obstacle(desk, "")
        text = f"{stands} {machine_line(w)}" if stands else w("train.empty.next")
        return working or empty(w("train.empty"), text)
    state = badge(w("train.finished"), "good") if training.finished else badge(w("train.unfinished"), "warn")
    said = facts(
        {
            w("train.steps_done"): training.points[-1][0] if training.points else 0,
            w("train.best"): training.best_step if training.best_step is not None else "–",
        }
    )
    go_on = "" if training.finished or working else notice(w("train.resume"))
    return (
        f'{working}<section class="panel"><div class="panel-head"><h3>{esc(w("train.curve"))}</h3>'
        f"{state}</div>{said}{go_on}"
        f"{curve(w, training.points)}{_samples(w, name, training)}</section>"
    )


def curve(w: Words, points: Sequence[tuple[int, float]]) -> str:
    """Likeness over steps as a line; the numbers are in a table for those who cannot see it."""
    if len(points) < 2:
        return f'<p class="muted">{esc(w("train.soon"))}</p>'
    last, low, high = points[-1][0], min(0.0, *(p[1] for p in points)), max(p[1] for p in points)
    span = (high - low) or 1.0

    def place(step: int, likeness: float) -> tuple[float, float]:
        return 44 + 540 * step / (last or 1), 190 - 160 * (likeness - low) / span

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{step}: {likeness:.3f}</title></circle>'
        for (step, likeness) in points
        for x, y in (place(step, likeness),)
    )
    rows = "".join(f"<tr><td>{step}</td><td>{likeness:.3f}</td></tr>" for step, likeness in points)
    return (
        f'<svg class="curve" viewBox="0 0 600 220" role="img" aria-label="{esc(w("train.curve"))}">'
        f'<path d="M44 190h548M44 190V24" class="axis"/><text x="4" y="34">{high:.2f}</text>'
        f'<text x="4" y="194">{low:.2f}</text>'
        f'<text x="44" y="212">0</text><text x="592" y="212" text-anchor="end">{last} {esc(w("train.steps"))}</text>'
        f'<polyline points="{line}"/>{dots}</svg>'
        f'<details class="fold"><summary>{esc(w("train.numbers"))}</summary><table><tr><th>{esc(w("train.steps"))}</th>'
        f"<th>{esc(w('train.likeness'))}</th></tr>{rows}</table></details>"
    )


def _samples(w: Words, name: str, training: Training) -> str:
    if not training.samples:
        return ""
    steps = sorted({sample.parent.name for sample in training.samples})[-3:]
    rows = []
    for step in reversed(steps):
        pictures = "".join(
            f'<img src="{url("pictures", "sample", slug(name), training.name, step, sample.name, w=160)}" '
            f'alt="{esc(w("train.sample", step=int(step.split("-")[1])))}" loading="lazy">'
            for sample in training.samples
            if sample.parent.name == step
        )
        rows.append(
            f'<p class="muted">{esc(w("train.sample", step=int(step.split("-")[1])))}</p><div class="strip">'
            f"{pictures}</div>"
        )
    return f"<h4>{esc(w('train.samples'))}</h4>{''.join(rows)}"
