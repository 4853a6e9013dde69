"""Settings: look and language, what this machine has, where things lie, and what leaves it (nothing)."""

from __future__ import annotations

import shutil

import gradio as gr

from facechain import __version__, bootstrap
from facechain.doctor import examine
from facechain.ui.desk import Desk, Shop
from facechain.ui.engines import machine_line
from facechain.ui.html import asked, badge, board, button, esc, facts, size


def build(shop: Shop) -> None:
    shown = board("settings")
    checked = board("settings-doctor")
    shop.watch.add(shown, _shown)
    shop.watch.add(checked, lambda desk: _doctor(desk, asked_for=False))

    def on_check(request: gr.Request, event: gr.EventData) -> str:
        do, _, _ = asked(event)
        return _doctor(shop.desk(request), asked_for=do == "doctor")

    shop.on(checked.click, on_check, None, [checked])


def _shown(desk: Desk) -> str:
    w = desk.w
    themes = "".join(
        f'<button type="button" class="btn" data-theme-choice="{name}" aria-pressed="false">'
        f"{esc(w(f'settings.{name}'))}</button>"
        for name in ("system", "light", "dark")
    )
    languages = "".join(
        f'<a class="btn{" primary" if w.language == code else ""}" href="{path}" lang="{code}"'
        f' hreflang="{code}">{name}</a>'
        for code, path, name in (("en", "/", "English"), ("zh", "/zh/", "中文"))
    )
    folder = bootstrap.workspace_folder(desk.owner)
    there = folder if folder.exists() else folder.absolute().parent
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    people, portraits = desk.faces.people(), desk.faces.portraits()
    where = {
        w("settings.people"): len(people),
        w("settings.portraits"): len(portraits),
        w("settings.used"): size(used),
        w("settings.free"): size(shutil.disk_usage(there if there.exists() else "/").free),
    }
    if not desk.owner:  # paths are the machine's own business
        where = {w("settings.folder"): folder.absolute(), w("settings.models"): desk.faces.tools.packs.folder, **where}
    judge = desk.faces.tools.calibration
    return (
        f'<div class="grid two"><section class="panel"><h3>{esc(w("settings.look"))}</h3>'
        f'<div class="line" role="group" aria-label="{esc(w("settings.look"))}">{themes}</div>'
        f'<h3>{esc(w("settings.language"))}</h3><div class="line" role="group"'
        f' aria-label="{esc(w("settings.language"))}">{languages}</div></section>'
        f'<section class="panel"><h3>{esc(w("settings.here"))}</h3>{facts(where)}<p class="muted">'
        f"{esc(machine_line(w))}</p></section>"
        f'<section class="panel"><h3>{esc(w("settings.privacy"))}</h3><p>'
        f"{esc(w('settings.privacy.text'))}</p></section>"
        f'<section class="panel"><h3>{esc(w("settings.judge"))}</h3><p>{esc(w("settings.judge.text"))}</p>'
        f'<p class="muted">{esc(_basis(judge))}</p><p class="muted">FaceChain {esc(__version__)}</p></section></div>'
    )


def _basis(calibration) -> str:
    try:
        return calibration().fusions[0].basis
    except Exception:  # another judge, not calibrated here
        return ""


def _doctor(desk: Desk, *, asked_for: bool) -> str:
    w = desk.w
    if desk.owner:  # the machine is its keeper's business
        return ""
    ask = button("doctor", w("settings.check"))
    if not asked_for:
        return (
            f'<section class="panel"><h3>{esc(w("settings.doctor"))}</h3><p class="muted">'
            f"{esc(w('settings.doctor.help'))}</p>{ask}</section>"
        )
    rows = "".join(
        f'<div class="job-row">{badge(w("settings.ok"), "good") if f.ok else badge(w("settings.todo"), "warn")}'
        f"<span>{esc(f.what)}{'' if f.ok else ' ' + esc(f.next_step)}</span></div>"
        for f in examine()
    )
    return (
        f'<section class="panel"><div class="panel-head"><h3>{esc(w("settings.doctor"))}</h3>{ask}</div>'
        f'<div class="jobs">{rows}</div></section>'
    )
