"""A run of portraits as it comes: progress, pictures while it works, verdicts when it is done. For Create"
" and Template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from facechain import bootstrap
from facechain.types import Call, Job, JobState
from facechain.ui.desk import OPEN, Desk, toast
from facechain.ui.html import button, empty, esc, go, notes, notice, progress, url
from facechain.ui.phrases import Words
from facechain.ui.portraits import card, summary

if TYPE_CHECKING:
    from facechain.store.workspace import KeptPortrait


def newest(desk: Desk, *, template: bool, hidden: str = "") -> Job | None:
    """The newest run asked for here; `template`: those into a picture of one's own. Batch members are the queue's."""
    for job in desk.recent("make"):
        if bool(job.arguments.get("template")) == template:
            return None if job.id == hidden and job.state not in OPEN else job
    return None


def portraits_of(desk: Desk, job: Job) -> list[KeptPortrait]:
    """What it made so far, the best first once it is judged."""
    made = [portrait for portrait in desk.faces.portraits() if portrait.run == job.id]
    if job.state in OPEN:
        return sorted(made, key=lambda p: p.id)
    return sorted(made, key=lambda p: (not p.verdicts[0].kept, -(p.verdicts[0].likeness or -1.0)))


def title(desk: Desk, job: Job) -> str:
    return desk.w("job.make", people=", ".join(job.arguments.get("people", ())), count=job.arguments.get("count", 0))


def shown(desk: Desk, job: Job | None) -> str:
    w = desk.w
    if job is None:
        return empty(w("results.empty"), w("results.empty.next"))
    made = portraits_of(desk, job)
    before = before_of(desk, job)
    working = progress(w, job, title(desk, job))
    cards = "".join(card(w, portrait, before=before) for portrait in made)
    if job.state in OPEN:
        return f'<section aria-live="polite">{working}<div class="grid portraits">{cards}</div></section>'
    if not made:
        return working or empty(w("results.none"), w("results.none.next"))
    alike = any(all(verdict.call is Call.SAME for verdict in portrait.verdicts) for portrait in made)
    kept = any(portrait.verdicts[0].kept for portrait in made)
    none = "" if job.state is not JobState.DONE or alike or kept else notice(w("results.no_likeness"), "warn")
    head = (
        f'<div class="panel-head"><h3>{esc(summary(w, made))}</h3><div class="line">'
        f"{go(w('tab.gallery'), w('results.gallery'), '')}{button('clear', w('results.clear'), job.id, 'quiet')}</div>"
        "</div>"
    )
    said = "".join(notes(w, on) for on in (job.result or {}).get("notes", {}).values())
    return f'<section aria-live="polite">{working}{head}{none}{said}<div class="grid portraits">{cards}</div></section>'


def before_of(desk: Desk, job: Job) -> str:
    """The address of the picture that was painted into, while it is still here."""
    own = str(job.arguments.get("template") or "")
    if own:
        batch, name = own.replace("\\", "/").split("/")[-2:]
        try:
            desk.uploads.file(batch, name)
        except Exception:  # swept since; the portraits stay
            return ""
        return url("pictures", "upload", batch, name, w=960, upright=1)
    style = str(job.arguments.get("style") or "")
    known = next((s for s in desk.faces.styles() if s.id == style), None)
    return url("pictures", "style", style, w=960) if known and known.template_pack else ""


def act(desk: Desk, do: str, id: str) -> bool:
    """The buttons every portrait and job has. False when it is none of them."""
    if do in ("keep", "reject"):
        desk.faces.keep(id, do == "keep")
    elif do == "cancel":
        bootstrap.jobs().cancel(id, desk.owner)
    elif do == "retry":
        bootstrap.jobs().retry(id, desk.owner)
    else:
        return False
    desk.changed()
    return True


def warn(w: Words, fields: Mapping[str, object]) -> None:
    """Says which pictures were not taken, and why."""
    refused = fields.get("refused")
    for one in refused[:5] if isinstance(refused, list) else ():
        gr.Warning(toast(str(one.get("what", ""))), title=w("people.refused"))


def arguments(people: list[str], **named: Any) -> dict[str, Any]:
    """For a "make" job: what was left empty is left out, so that the defaults of the engine hold."""
    return {"people": people, **{name: value for name, value in named.items() if value not in (None, "", [], {})}}
