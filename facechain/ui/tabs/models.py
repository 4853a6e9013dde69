"""Models: what is here, how large, under which licence; fetched with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from facechain import bootstrap
from facechain.errors import UserError
from facechain.types import Job
from facechain.ui.desk import OPEN, Desk, Shop
from facechain.ui.html import asked, badge, board, button, esc, notice, progress, size
from facechain.ui.phrases import Words

if TYPE_CHECKING:
    from facechain.packs.fetch import Status

_COMMERCIAL = {"yes": "good", "no": "bad"}


def build(shop: Shop) -> None:
    w = shop.w
    gr.HTML(f'<p class="muted">{esc(w("models.intro"))}</p>')
    shop.safe_only.render()
    shown = board("models")
    hidden = gr.State("")  # a fetch that ended badly and was closed
    shop.watch.add(shown, _shown, [shop.safe_only, hidden], kinds=("fetch",), live=True)
    shop.draw(shop.safe_only.input, _shown, [shop.safe_only, hidden], [shown])

    def on_shown(request: gr.Request, event: gr.EventData, safe_only: bool, closed: str) -> Any:
        desk, (do, id, _) = shop.desk(request), asked(event)
        packs = desk.faces.tools.packs
        if do == "fetch":
            if safe_only and packs.pack(id).licence.commercial != "yes":
                raise UserError(w("models.not_safe"), w("models.not_safe.next"))
            desk.submit("fetch", {"ids": [id]})
        elif do == "core":
            desk.submit("fetch", {"ids": needed(desk)})
        elif do == "cancel":
            bootstrap.jobs().cancel(id, desk.owner)
        elif do == "retry":
            bootstrap.jobs().retry(id, desk.owner)
        elif do == "dismiss":
            closed = id
        desk.changed()
        return _shown(desk, safe_only, closed), closed

    shop.on(shown.click, on_shown, [shop.safe_only, hidden], [shown, hidden])


def needed(desk: Desk) -> list[str]:
    """Packs not here yet without which nobody can be added, and the pictures there are to paint into."""
    packs = desk.faces.tools.packs
    pictures = dict.fromkeys(style.template_pack for style in desk.faces.styles() if style.template_pack)
    return [id for id in (*bootstrap.SETS["core"], *pictures) if not packs.status(id).present]


def _shown(desk: Desk, safe_only: bool, hidden: str) -> str:
    w, packs = desk.w, desk.faces.tools.packs
    jobs = [job for job in desk.recent("fetch") if job.state in OPEN]
    latest = [job for job in desk.recent("fetch")[:1] if job.id != hidden]
    working = "".join(progress(w, job, _title(w, job), bytes_=True) for job in jobs or latest)
    known = packs.list()
    listed = [status for status in known if not safe_only or status.commercial == "yes"]
    here = [status for status in known if status.present]
    missing = needed(desk)
    need = (
        notice(w("models.core_missing", count=len(missing)), "warn") + button("core", w("models.core"), kind="primary")
        if missing and not jobs
        else ""
    )
    together = packs.licences([status.id for status in here]) if here else None
    free = notice(f"{w('models.together')} {w(f'commercial.{together.commercial}')}.") if together else ""
    fetching = {id for job in jobs for id in job.arguments.get("ids", ())}
    rows = "".join(
        _pack(w, status, packs.pack(status.id).licence.url, status.id in fetching)
        for status in sorted(listed, key=_order)
    )
    others = len(known) - len(listed)
    left_out = f'<p class="muted">{esc(w("models.hidden", count=others))}</p>' if others else ""
    total = w("models.total", count=len(here), size=size(sum(status.bytes for status in here)))
    return f'{working}{need}<p class="muted">{esc(total)}</p>{free}<div class="packs">{rows}</div>{left_out}'


def _order(status: Status) -> tuple[bool, str, str]:
    return not status.present, status.role, status.title


def _pack(w: Words, status: Status, licence_url: str, fetching: bool) -> str:
    state = badge(w("models.here"), "good") if status.present else badge(w("models.missing"))
    unsure = badge(w("models.unverified"), "warn") if status.present and status.verified == "unverified" else ""
    fetch = (
        ""
        if status.present or fetching
        else button("fetch", w("models.fetch"), status.id, "small", w("models.fetch.label", title=status.title))
    )
    licence = (
        f'<a href="{esc(licence_url)}" target="_blank" rel="noopener noreferrer">{esc(status.licence)}</a>'
        if licence_url.startswith("https://")
        else esc(status.licence)
    )
    return (
        f'<div class="pack"><div><strong>{esc(status.title)}</strong><small class="muted">'
        f"{esc(w.role(status.role))} · {esc(size(status.bytes) if status.bytes else w('models.unsized'))}"
        f' · {licence}</small></div><div class="badges">{state}{unsure}'
        f"{badge(w(f'commercial.{status.commercial}'), _COMMERCIAL.get(status.commercial, 'warn'))}</div>{fetch}</div>"
    )


def _title(w: Words, job: Job) -> str:
    return w("job.fetch", packs=", ".join(job.arguments.get("ids", ())) or job.arguments.get("set", "") or "core")
