"""People: photos in, each accepted or not and why; consent; what is known of everybody; forget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from facechain import bootstrap
from facechain.errors import StoreError, UserError
from facechain.people.names import slug
from facechain.types import Job, JobState, Verdict
from facechain.ui import results
from facechain.ui.desk import OPEN, ROOM, Desk, Shop
from facechain.ui.html import (
    asked,
    badge,
    board,
    button,
    dropzone,
    empty,
    esc,
    export_form,
    facts,
    go,
    import_form,
    look_here,
    notes,
    notice,
    progress,
    url,
)
from facechain.ui.phrases import Words
from facechain.ui.portraits import call_badge

if TYPE_CHECKING:
    from facechain.store.workspace import KeptPhoto, PersonSummary

_LOOKED = ("check", "sort")


def build(shop: Shop) -> None:
    w = shop.w
    opened = gr.State("")  # name of the person shown
    batch = gr.State("")  # the upload being looked at
    group = gr.State([])  # photo names chosen from a mixed album; empty: all accepted ones
    hidden = gr.State("")  # a judging that was closed
    people = board("people")
    gr.HTML(f'<h2 class="section">{esc(w("people.add"))}</h2><p class="muted">{esc(w("people.add.help"))}</p>')
    drop = board("people-drop", dropzone(w, w("people.drop"), w("people.drop.help")))
    checked = board("people-checked")
    with gr.Group(visible=False, elem_id="people-form") as form:
        gr.HTML(f'<h2 class="section">{esc(w("people.who"))}</h2>', elem_classes="form-title")
        with gr.Row():
            name = gr.Textbox("", label=w("people.name"), placeholder=w("people.name.hint"), max_length=80)
            by = gr.Textbox("", label=w("people.by"), placeholder=w("people.by.hint"), max_length=500)
            purpose = gr.Textbox("", label=w("people.purpose"), placeholder=w("people.purpose.hint"), max_length=500)
        agree = gr.Checkbox(label=w("people.agree"), value=False)
        add = gr.Button(w("people.enrol"), variant="primary", elem_id="people-enrol")
    bring = board("people-import", import_form(w))
    judge = board("people-judge")

    shop.watch.add(people, _people, [opened], kinds=("enrol", "make"))
    shop.watch.add(checked, _checked, [batch, group], kinds=(*_LOOKED, "enrol"), live=True)
    shop.watch.add(form, lambda desk, batch: gr.update(visible=_ready(desk, batch)), [batch], kinds=(*_LOOKED, "enrol"))
    shop.watch.add(judge, _judged, [opened, hidden], kinds=("judge",), live=True)

    def on_people(request: gr.Request, event: gr.EventData, current: str) -> tuple[Any, ...]:
        desk, (do, id, fields) = shop.desk(request), asked(event)
        if do == "open":
            current = "" if current == id else id
        elif do == "describe":
            tags = {key.removeprefix("tag:"): str(value) for key, value in fields.items() if key.startswith("tag:")}
            desk.faces.describe(current, id, str(fields.get("caption", "")), tags)
            gr.Info(w("people.saved"))
        elif do == "forget":
            gone = desk.faces.forget(id)
            gr.Info(w("people.forgotten", name=id, portraits=gone))
            current = ""
        elif do == "dismiss":
            return current, gr.skip(), gr.skip()
        desk.changed()
        return current, _people(desk, current), _judged(desk, current)

    shop.on(people.click, on_people, [opened], [opened, people, judge])

    def on_import(request: gr.Request, event: gr.EventData, current: str) -> tuple[Any, ...]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        if do != "imported":
            return gr.skip(), gr.skip()
        gr.Info(w("import.done", name=id))
        return id, _people(desk, id)

    shop.on(bring.click, on_import, [opened], [opened, people])

    def on_drop(request: gr.Request, event: gr.EventData, current: str) -> tuple[Any, ...]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        if do != "uploaded" or not desk.uploads.files(id):
            return gr.skip(), gr.skip(), gr.skip()
        before = current if current and desk.uploads.files(current) else _newest_batch(desk)
        if before and before != id:  # more photos for those that wait already
            desk.uploads.join(before, id)
            id = before
        desk.submit("check", {"paths": [str(path) for path in desk.uploads.files(id)]})
        return id, [], _checked(desk, id, [])

    shop.on(drop.click, on_drop, [batch], [batch, group, checked])

    def on_checked(request: gr.Request, event: gr.EventData, current: str, chosen: list[str]) -> tuple[Any, ...]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        current = current or _newest_batch(desk)
        if do == "cancel":
            bootstrap.jobs().cancel(id, desk.owner)
        elif do == "retry":
            bootstrap.jobs().retry(id, desk.owner)
        elif do == "sort":
            desk.submit("sort", {"paths": [str(path) for path in desk.uploads.files(current)]})
        elif do == "drop":
            desk.uploads.drop(current, id)
        elif do == "group":
            taken = set(id.split("\n"))
            chosen = (
                [n for n in chosen if n not in taken]
                if taken <= set(chosen)
                else [*chosen, *sorted(taken - set(chosen))]
            )
        elif do in ("discard", "dismiss"):
            desk.uploads.drop(current)
            current, chosen = "", []
        desk.changed()
        return current, chosen, _checked(desk, current, chosen), gr.update(visible=_ready(desk, current))

    shop.on(checked.click, on_checked, [batch, group], [batch, group, checked, form])

    def on_add(
        request: gr.Request, current: str, chosen: list[str], who: str, given_by: str, why: str, agreed: bool
    ) -> tuple[Any, ...]:
        desk = shop.desk(request)
        for value, phrase in ((who, "people.need.name"), (given_by, "people.need.by"), (why, "people.need.purpose")):
            if not value.strip():
                raise UserError(w(phrase), "")
        if not agreed:
            raise UserError(w("people.need.agree"), "")
        desk.faces.tools.workspace.check_free(slug(who))
        current = current or _newest_batch(desk)
        files = [path for path in desk.uploads.files(current) if not chosen or path.name in chosen]
        if not files:
            raise UserError(w("people.need.photos"), "")
        desk.submit("enrol", {"name": who, "paths": [str(p) for p in files], "consent_by": given_by, "purpose": why})
        return _checked(desk, current, chosen), gr.update(visible=False), "", "", "", False, who

    shop.on(
        add.click,
        on_add,
        [batch, group, name, by, purpose, agree],
        [checked, form, name, by, purpose, agree, opened],
    )

    def on_judge(request: gr.Request, event: gr.EventData, current: str, closed: str) -> Any:
        desk, (do, id, fields) = shop.desk(request), asked(event)
        results.warn(w, fields)
        if do == "uploaded" and desk.uploads.files(id):
            desk.submit("judge", {"name": current, "paths": [str(path) for path in desk.uploads.files(id)]})
        elif do == "cancel":
            bootstrap.jobs().cancel(id, desk.owner)
        elif do == "retry":
            bootstrap.jobs().retry(id, desk.owner)
        elif do == "dismiss":
            closed = id
        desk.changed()
        return _judged(desk, current, closed), closed

    shop.on(judge.click, on_judge, [opened, hidden], [judge, hidden])


# ── everybody, and one of them ───────────────────────────────────────────────────────────────────


def _people(desk: Desk, opened: str) -> str:
    w, known = desk.w, desk.faces.people()
    damaged = "".join(_damaged(w, one.slug) for one in desk.faces.damaged_people())
    if not known:
        return damaged or empty(w("people.empty"), w("people.empty.next"))
    cards = "".join(_card(w, person, person.name == opened, _face(desk, person.name)) for person in known)
    title = f'<h2 class="section">{esc(w("people.title"))}</h2>'
    shown = next((person for person in known if person.name == opened), None)
    return f'{title}{damaged}<div class="grid people">{cards}</div>{_detail(desk, shown) if shown else ""}'


def _damaged(w: Words, slug: str) -> str:
    forget = button("forget", w("people.forget"), slug, "danger", confirm=w("people.forget.sure", name=slug))
    return f'<div class="notice bad line">{esc(w("people.damaged", name=slug))} {forget}</div>'


def _face(desk: Desk, name: str) -> str:
    try:
        photos = desk.faces.photos(name)
    except StoreError:  # opened, the person's own panel says so
        return ""
    best = max(photos, key=lambda photo: photo.quality, default=None)
    return url("pictures", "photo", slug(name), best.id, w=240) if best else ""


def _card(w: Words, person: PersonSummary, opened: bool, picture: str) -> str:
    counts = w("people.counts", photos=person.photos, held_out=person.held_out, portraits=person.portraits)
    return (
        f'<button type="button" class="card person" data-do="open" data-id="{esc(person.name)}" '
        f'aria-expanded="{str(opened).lower()}"><img src="{picture}" alt="" loading="lazy">'
        f'<span><strong>{esc(person.name)}</strong><small class="muted">{esc(counts)}</small></span></button>'
    )


def _detail(desk: Desk, person: PersonSummary) -> str:
    w, agreed = desk.w, person.consent
    consent = facts(
        {
            w("people.by"): agreed.given_by,
            w("people.purpose"): agreed.purpose,
            w("people.when"): f"{agreed.when:%Y-%m-%d}",
        }
    )
    try:
        photos = "".join(_photo(w, person.name, photo) for photo in desk.faces.photos(person.name))
    except StoreError:
        photos = notice(w("people.damaged", name=person.name), "bad")
    forget = button(
        "forget", w("people.forget"), person.name, "danger", confirm=w("people.forget.sure", name=person.name)
    )
    return (
        f'<section class="panel" aria-label="{esc(person.name)}"{look_here(person.name)}>'
        f'<div class="panel-head"><h3>{esc(person.name)}</h3>'
        f'<div class="line">{go(w("tab.create"), w("people.make"))}{forget}</div></div>{consent}'
        f'<p class="muted">{esc(w("people.held_out.help"))}</p><div class="grid photos">{photos}</div>'
        f"{export_form(w, person.slug)}</section>"
    )


def _photo(w: Words, name: str, photo: KeptPhoto) -> str:
    whose = (
        badge(w("photo.judge"), "", w("people.held_out.help")) if photo.held_out else badge(w("photo.learn"), "good")
    )
    picture = url("pictures", "photo", slug(name), photo.id, w=320)
    tags = "".join(_tag(w, tag.name, tag.value, tag.confidence) for tag in photo.tags)
    return (
        f'<div class="card photo" data-form><img src="{picture}" alt="{esc(photo.name)}" loading="lazy">'
        '<div class="photo-body"><div class="badges">'
        f"{whose}{badge(w('photo.quality', share=f'{photo.quality:.0%}'))}</div>"
        f'<label class="field"><span>{esc(w("photo.caption"))}</span>'
        f'<textarea data-field="caption" rows="3" maxlength="1000">{esc(photo.caption)}</textarea></label>'
        f'<details class="fold"><summary>{esc(w("photo.tags", count=len(photo.tags)))}</summary>'
        f'<div class="tags">{tags}</div></details>'
        f"{notes(w, [vars(note) for note in photo.notes])}"
        f"{button('describe', w('photo.save'), photo.id, 'small', w('photo.save.label', name=photo.name))}</div></div>"
    )


def _tag(w: Words, name: str, value: str, confidence: float) -> str:
    sure = w("photo.sure", share=f"{confidence:.0%}")
    return (
        f'<label class="field tag-field"><span title="{esc(sure)}">{esc(w.tag(name))}</span>'
        f'<input data-field="tag:{esc(name)}" value="{esc(value)}" maxlength="60"></label>'
    )


# ── photos on their way in ───────────────────────────────────────────────────────────────────────


def _newest_batch(desk: Desk) -> str:
    """The upload a reopened page goes on with: the newest one looked at and not yet enrolled."""
    for job in desk.recent(*_LOOKED):
        found = _batch_of(job)
        if found and desk.uploads.files(found):
            return found
    return ""


def _batch_of(job: Job) -> str:
    paths = job.arguments.get("paths") or ("",)
    parts = Path(paths[0]).parts
    return parts[-2] if len(parts) > 2 and parts[-3] == ROOM else ""


def _looks(desk: Desk, batch: str) -> list[Job]:
    return [job for job in desk.recent(*_LOOKED, "enrol") if _batch_of(job) == batch]


def _ready(desk: Desk, batch: str) -> bool:
    """Whether there is something to enrol and nothing under way."""
    batch = batch or _newest_batch(desk)
    jobs = _looks(desk, batch) if batch else []
    busy = any(job.state in OPEN for job in jobs)
    enrolled = bool(jobs) and jobs[0].kind == "enrol" and jobs[0].state is JobState.DONE
    return not (busy or enrolled) and any(
        (job.result or {}).get("accepted") or (job.result or {}).get("persons")
        for job in jobs
        if job.state is JobState.DONE and job.kind in _LOOKED
    )


def _checked(desk: Desk, batch: str, chosen: list[str]) -> str:
    w, batch = desk.w, batch or _newest_batch(desk)
    jobs = _looks(desk, batch) if batch else []
    if not jobs:
        return ""
    newest = jobs[0]
    if newest.kind == "enrol":
        if newest.state is JobState.DONE:
            desk.uploads.drop(batch)
            result = newest.result or {}
            said = w(
                "people.enrolled",
                name=result.get("person", ""),
                photos=result.get("photos", 0),
                held_out=result.get("held_out", 0),
            )
            return notice(said, "good") + go(w("tab.create"), w("people.make"))
        return progress(w, newest, w("job.enrol", name=newest.arguments.get("name", "")))
    title = w("job.check" if newest.kind == "check" else "job.sort", count=len(newest.arguments.get("paths", ())))
    if newest.state is not JobState.DONE:
        return progress(w, newest, title)
    files = {path.name for path in desk.uploads.files(batch)}
    if newest.kind == "sort":
        return _persons(w, newest, batch, files, chosen)
    return _outcomes(w, newest, batch, files)


def _outcomes(w: Words, job: Job, batch: str, files: set[str]) -> str:
    result = job.result or {}
    accepted = [one for one in result.get("accepted", ()) if one["photo_name"] in files]
    refused = [one for one in result.get("rejections", ()) if one["photo_name"] in files]
    good = "".join(
        _thumb(
            w,
            batch,
            one["photo_name"],
            badge(w("photo.accepted"), "good"),
            one.get("caption", ""),
            one.get("tags", ()),
            notes(w, one.get("notes", ())),
        )
        for one in accepted
    )
    bad = "".join(
        _thumb(
            w,
            batch,
            one["photo_name"],
            badge(w(f"reason.{one['reason']}"), "bad"),
            w.advice(one["reason"], one["advice"]),
            said=notes(w, one.get("notes", ())),
        )
        for one in refused
    )
    mixed = any(one["reason"] in ("someone_else", "several_people") for one in refused)
    sort = notice(w("people.mixed")) + button("sort", w("people.sort"), kind="primary") if mixed else ""
    few = notice(w("people.few"), "warn") if 0 < len(accepted) < 3 else ""
    head = (
        '<div class="panel-head"><h3>'
        f"{esc(w('people.checked', accepted=len(accepted), total=len(accepted) + len(refused)))}</h3>"
        f'<div class="line">{_onward(w, "" if mixed else "primary") if accepted else ""}'
        f"{button('discard', w('people.discard'), kind='quiet')}</div></div>"
    )
    none = notice(w("people.none"), "bad") if not accepted else ""
    return (
        f'<section class="panel" aria-live="polite"{look_here(job.id)}>{head}{none}{few}{sort}<div class="grid photos">'
        f"{good}{bad}</div></section>"
    )


def _onward(w: Words, kind: str) -> str:
    """To the form below the photos, however many there are."""
    return f'<a class="btn {kind}" href="#people-form">{esc(w("people.onward"))}</a>'


def _thumb(w: Words, batch: str, name: str, mark: str, text: str, tags: Any = (), said: str = "") -> str:
    seen = "".join(
        badge(f"{w.tag(tag['name'])}: {w.value(tag['value'])}")
        for tag in tags
        if tag.get("value") not in ("unknown", "no")
    )
    return (
        '<figure class="card thumb">'
        f'<img src="{url("pictures", "upload", batch, name, w=240)}" alt="{esc(name)}" loading="lazy">'
        f'<figcaption><div class="badges">{mark}</div><strong class="name">{esc(name)}</strong>'
        f'<p>{esc(text)}</p>{said}<div class="badges soft">{seen}</div>'
        f"{button('drop', '×', name, 'remove', w('photo.remove', name=name))}</figcaption></figure>"
    )


def _persons(w: Words, job: Job, batch: str, files: set[str], chosen: list[str]) -> str:
    """A card a person found; two cards of one person may both be chosen."""
    result, cards = job.result or {}, []
    told = result.get("notes", {})
    for number, names in enumerate(result.get("persons", ()), 1):
        there = sorted(set(names) & files)
        if not there:
            continue
        picked = set(there) <= set(chosen)
        pictures = "".join(
            f'<img src="{url("pictures", "upload", batch, name, w=160)}" alt="{esc(name)}" loading="lazy">'
            for name in there[:6]
        )
        more = f"<small>+{len(there) - 6}</small>" if len(there) > 6 else ""
        choose = button(
            "group",
            w("people.chosen") if picked else w("people.this"),
            "\n".join(there),
            "small primary" if picked else "small",
            w("people.this.label", number=number),
            pressed=picked,
        )
        cards.append(
            f'<div class="card cluster"><div class="faces">{pictures}{more}</div>'
            f"<strong>{esc(w('people.person', number=number, count=len(there)))}</strong>"
            f"{''.join(notes(w, told.get(name, ())) for name in there)}{choose}</div>"
        )
    left = result.get("left_out") or ()
    rest = notice(w("people.left_out", count=len(left))) if left else ""
    many = notice(w("people.same"), "good") if len(chosen) else notice(w("people.choose"))
    return (
        f'<section class="panel"{look_here(job.id)}><div class="panel-head">'
        f"<h3>{esc(w('people.sorted', count=len(cards)))}</h3>"
        f"{button('discard', w('people.discard'), kind='quiet')}</div>{many}"
        f'<div class="grid clusters">{"".join(cards)}</div>{rest}</section>'
    )


# ── is it really them ────────────────────────────────────────────────────────────────────────────


def _judged(desk: Desk, opened: str, hidden: str = "") -> str:
    """Any picture against the person shown above."""
    w = desk.w
    if not opened or opened not in {person.name for person in desk.faces.people()}:
        return ""
    zone = dropzone(w, w("judge.drop", name=opened), w("judge.help"))
    job = next((job for job in desk.recent("judge") if job.arguments.get("name") == opened), None)
    shown = ""
    if job and job.id != hidden and job.state is not JobState.DONE:
        shown = progress(w, job, w("job.judge", name=opened))
    elif job and job.state is JobState.DONE:
        batch, told = _batch_of(job), (job.result or {}).get("notes", {})
        rows = [
            (Path(one["path"]).name, Verdict.read(one["verdicts"][0]))
            for one in (job.result or {}).get("portraits", ())
        ]
        shown = "".join(
            f'<figure class="card thumb"><img src="{url("pictures", "upload", batch, name, w=240)}" alt="{esc(name)}">'
            f'<figcaption><div class="badges">{call_badge(w, verdict)}</div><strong class="name">'
            f"{esc(name)}</strong>{notes(w, told.get(name, ()))}</figcaption></figure>"
            for name, verdict in rows
        )
        shown = f'<div class="grid photos">{shown}</div>'
    return f'<section class="panel"><h3>{esc(w("judge.title", name=opened))}</h3>{zone}{shown}</section>'
