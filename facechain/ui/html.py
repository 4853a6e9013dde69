"""The small pieces pages are made of. Everything that comes from a person or a file goes through `esc`."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import gradio as gr

from facechain.api.schemas import readable
from facechain.api.uploads import MAX_BYTES
from facechain.photos.raw import SUFFIXES as RAW_SUFFIXES
from facechain.types import Job, JobState
from facechain.ui.phrases import Words

# Browsers do not count all of these among images.
_ACCEPT = ",".join(("image/*", ".heic", ".heif", ".avif", *RAW_SUFFIXES))
_LISTEN = "window.facechainBoard(element, trigger)"


def esc(text: object) -> str:
    return html.escape(readable(str(text)), quote=True)


def url(*parts: str, **query: object) -> str:
    """A path of ours, each part quoted."""
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    asked = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in query.items())
    return esc(f"{path}?{asked}" if asked else path)


def board(id: str, value: str = "") -> gr.HTML:
    """HTML whose buttons (data-do, data-id, data-form) reach Python as one click event."""
    return gr.HTML(value, elem_id=id, elem_classes=["board"], js_on_load=_LISTEN, padding=False)


def asked(event: gr.EventData) -> tuple[str, str, dict[str, object]]:
    """What was clicked: the verb, its object, and the fields beside it."""
    data = event._data or {}
    return str(data.get("do", "")), str(data.get("id", "")), dict(data.get("fields") or {})


def button(
    do: str, text: str, id: str = "", kind: str = "", label: str = "", confirm: str = "", pressed: bool | None = None
) -> str:
    """`kind`: "" plain, "primary", "danger" or "quiet"."""
    marks = f' data-id="{esc(id)}"' if id else ""
    marks += f' data-confirm="{esc(confirm)}"' if confirm else ""
    marks += f' aria-label="{esc(label)}"' if label else ""
    marks += "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    return f'<button type="button" class="btn {kind}" data-do="{do}"{marks}>{esc(text)}</button>'


def badge(text: str, kind: str = "", title: str = "") -> str:
    """`kind`: "" neutral, "good", "warn" or "bad"."""
    hint = f' title="{esc(title)}"' if title else ""
    return f'<span class="badge {kind}"{hint}>{esc(text)}</span>'


def empty(title: str, text: str, action: str = "") -> str:
    """What a place says while there is nothing in it, and what to do next."""
    art = (
        '<svg viewBox="0 0 64 64" width="56" height="56" aria-hidden="true"><circle cx="32" cy="24" r="11"/>'
        '<path d="M12 56c2-12 10-18 20-18s18 6 20 18"/></svg>'
    )
    return f'<div class="empty">{art}<h3>{esc(title)}</h3><p>{esc(text)}</p>{action}</div>'


def notice(text: str, kind: str = "") -> str:
    role = "alert" if kind == "bad" else "status"
    return f'<p class="notice {kind}" role="{role}">{esc(text)}</p>' if text else ""


def notes(w: Words, said: Sequence[Mapping[str, Any]]) -> str:
    """How a picture was read, as jobs tell it."""
    return "".join(f'<p class="muted">{esc(w.note(note))}</p>' for note in said)


def look_here(key: object) -> str:
    """Marks what a page scrolls to once it appears after a click there; another `key` is another appearance."""
    return f' data-look="{esc(key)}"'


def go(tab: str, text: str, kind: str = "primary") -> str:
    """A button that opens another tab."""
    return f'<button type="button" class="btn {kind}" data-tab="{esc(tab)}">{esc(text)}</button>'


def dropzone(w: Words, title: str, text: str, *, many: bool = True) -> str:
    """Takes pictures, sends each to /uploads as it is, and reports "uploaded" with the upload's name."""
    words = {
        "sending": w.raw("drop.sending"),
        "large": w.raw("drop.large").replace("{limit}", str(MAX_BYTES // 1_000_000)),
        "lost": w.raw("drop.lost"),
        "others": w.raw("drop.others"),
    }
    several = " multiple" if many else ""
    folder = (
        f'<label class="btn quiet folder">{esc(w("drop.folder"))}'
        '<input type="file" data-folder webkitdirectory></label>'
        if many
        else ""
    )
    return (
        f'<div class="drop" data-drop data-limit="{MAX_BYTES}" data-words="{esc(json.dumps(words))}">'
        f'<label><span class="drop-title">{esc(title)}</span><span class="muted">{esc(text)}</span>'
        f'<span class="btn primary" aria-hidden="true">{esc(w("drop.choose" if many else "drop.choose_one"))}</span>'
        f'<input type="file" data-files accept="{_ACCEPT}"{several} aria-label="{esc(title)}"></label>'
        f"{folder}"
        f'<progress hidden aria-label="{esc(w("drop.progress"))}"></progress>'
        '<p class="said" data-said role="status"></p></div>'
    )


def import_form(w: Words) -> str:
    """Sends an archive to /people/import and reports "imported" with the person's name."""
    words = {"unknown": w.raw("import.unknown"), "lost": w.raw("drop.lost")}

    fields = (
        (w("import.archive"), 'type="file" name="archive" required'),
        (w("import.passphrase"), 'type="password" name="passphrase" autocomplete="off" maxlength="1000"'),
        (w("import.name"), 'type="text" name="name" maxlength="80" autocomplete="off"'),
    )
    inputs = (f'<label class="field"><span>{esc(label)}</span><input {about}></label>' for label, about in fields)
    return (
        f'<details class="fold"><summary>{esc(w("import.title"))}</summary>'
        f'<form data-import data-words="{esc(json.dumps(words))}"><p class="muted">{esc(w("import.help"))}</p>'
        f"{''.join(inputs)}"
        f'<p data-trust hidden><label><input type="checkbox" name="trust_signer"> {esc(w("import.trust"))}</label></p>'
        f'<div class="line"><button type="submit" class="btn">{esc(w("import.go"))}</button>'
        f'<button type="button" class="btn quiet" data-stop hidden>{esc(w("job.cancel"))}</button></div>'
        f'<progress hidden aria-label="{esc(w("drop.progress"))}"></progress>'
        '<p class="said" data-said role="status"></p></form></details>'
    )


def export_form(w: Words, slug: str) -> str:
    """Downloads the person's archive, encrypted when a passphrase is typed."""
    return (
        f'<details class="fold"><summary>{esc(w("export.title"))}</summary>'
        f'<form method="post" action="{url("people", "export", slug)}" target="_blank">'
        f'<p class="muted">{esc(w("export.help"))}</p><label class="field"><span>{esc(w("export.passphrase"))}</span>'
        '<input type="password" name="passphrase" autocomplete="new-password" maxlength="1000"></label>'
        f'<button type="submit" class="btn">{esc(w("export.go"))}</button></form></details>'
    )


def facts(pairs: Mapping[str, object]) -> str:
    rows = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in pairs.items())
    return f'<dl class="facts">{rows}</dl>'


def seconds(w: Words, count: float) -> str:
    if count < 90:
        return w("time.seconds", count=max(1, round(count)))
    return w("time.minutes", count=round(count / 60)) if count < 5400 else w("time.hours", count=round(count / 3600, 1))


def size(count: float) -> str:
    if not count:
        return "–"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"


def failure(w: Words, job: Job) -> str:
    """What went wrong and what to do; where the terminal is needed, in words for who has none."""
    if "facechain jobs retry" in job.next_step:
        return f"{w('job.lost')} {w('job.lost.next')}"
    if "facechain packs fetch" in job.next_step:
        return f"{job.error} {w('job.models.next')}"
    return f"{job.error} {job.next_step}".strip()


def progress(w: Words, job: Job, title: str, *, bytes_: bool = False) -> str:
    """A job as it stands: what it does, how far, how long, and what can be done about it."""
    if job.state is JobState.QUEUED:
        line = w("job.waiting", position=job.position or 1) if not job.cancelling else w("job.stopping")
    elif job.state is JobState.RUNNING:
        line = w("job.stopping") if job.cancelling else _step(w, job, bytes_)
    elif job.state is JobState.FAILED:
        text = failure(w, job)
        return (
            f'<div class="job bad" role="alert"><div class="job-head"><strong>{esc(title)}</strong>'
            f"{badge(w('state.failed'), 'bad')}</div><p>{esc(text)}</p>"
            f'<div class="line">{button("retry", w("job.retry"), job.id)}'
            f"{button('dismiss', w('job.dismiss'), job.id, 'quiet')}</div></div>"
        )
    elif job.state is JobState.CANCELLED:
        return (
            f'<div class="job" role="status"><div class="job-head"><strong>{esc(title)}</strong>'
            f'{badge(w("state.cancelled"))}</div><p class="muted">{esc(w("job.cancelled"))}</p>'
            f'<div class="line">{button("retry", w("job.retry"), job.id)}'
            f"{button('dismiss', w('job.dismiss'), job.id, 'quiet')}</div></div>"
        )
    else:
        return ""
    bar = f'value="{job.done}" max="{job.total}"' if job.total and job.state is JobState.RUNNING else ""
    cancel = (
        "" if job.cancelling else button("cancel", w("job.cancel"), job.id, "quiet", w("job.cancel.label", title=title))
    )
    again = badge(w("job.attempt", count=job.attempt), "warn") if job.attempt > 1 else ""
    return (
        f'<div class="job" role="status" data-job="{esc(job.id)}"><div class="job-head"><strong>'
        f"{esc(title)}</strong>{again}"
        f'{cancel}</div><progress {bar} aria-label="{esc(title)}"></progress><p class="muted">{esc(line)}</p></div>'
    )


def _step(w: Words, job: Job, bytes_: bool) -> str:
    stage = w.stage(job.stage) if job.stage else w("job.starting")
    if not job.total:
        return stage
    far = f"{size(job.done)} / {size(job.total)}" if bytes_ else w("job.of", done=job.done, total=job.total)
    eta = w("job.left", time=seconds(w, job.eta_s)) if job.eta_s else ""
    return " · ".join(filter(None, (stage, far, eta)))
