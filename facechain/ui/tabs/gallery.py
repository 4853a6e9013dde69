"""Gallery: everything made; filters, two side by side, export, delete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import gradio as gr

from facechain.errors import UserError
from facechain.types import Call
from facechain.ui import results
from facechain.ui.desk import Desk, Shop
from facechain.ui.fields import choices
from facechain.ui.html import asked, board, button, empty, esc, go, url
from facechain.ui.phrases import Words
from facechain.ui.portraits import call_badge, card, compare

if TYPE_CHECKING:
    from facechain.store.workspace import KeptPortrait

_PAGE = 48
_DAYS = {"": None, "day": 1, "week": 7, "month": 30}


def build(shop: Shop) -> None:
    w = shop.w
    picked = gr.State([])
    side_by_side = gr.State(False)
    pages = gr.State(1)
    with gr.Row(elem_classes="filters", elem_id="gallery-filters"):
        person = gr.Dropdown([(w("gallery.anybody"), "")], value="", label=w("gallery.person"), min_width=140)
        style = gr.Dropdown([(w("gallery.any"), "")], value="", label=w("gallery.style"), min_width=140)
        engine = gr.Dropdown([(w("gallery.any"), "")], value="", label=w("gallery.engine"), min_width=140)
        likeness = gr.Dropdown(
            [(w("gallery.any"), ""), *((w(f"call.{call.name.lower()}"), call.name) for call in Call)],
            value="",
            label=w("gallery.likeness"),
            min_width=140,
        )
        date = gr.Dropdown(
            [(w(f"gallery.date.{key or 'any'}"), key) for key in _DAYS],
            value="",
            label=w("gallery.date"),
            min_width=140,
        )
        which = gr.Radio(
            [(w("gallery.kept"), "kept"), (w("gallery.all"), "all")],
            value="kept",
            label=w("gallery.which"),
            min_width=160,
        )
    shown = board("gallery")
    filters = [person, style, engine, likeness, date, which]
    everything = [*filters, picked, side_by_side, pages]

    shop.watch.add(shown, _shown, everything, kinds=("make",))
    for output, known in ((person, _people), (style, _styles), (engine, _engines)):
        shop.watch.add(output, known, [output], kinds=("make", "enrol"))

    def on_filter(request: gr.Request, *values: Any) -> tuple[Any, ...]:
        return [], False, 1, _shown(shop.desk(request), *values, [], False, 1)

    for changed in filters:
        shop.on(changed.input, on_filter, filters, [picked, side_by_side, pages, shown])

    def on_shown(request: gr.Request, event: gr.EventData, *values: Any) -> tuple[Any, ...]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        *chosen, keys, comparing, count = values
        if do == "pick":
            keys = [key for key in keys if key != id] if id in keys else [*keys, id]
        elif do == "all":
            keys = [portrait.key for portrait in _filtered(desk, *chosen)]
        elif do == "nothing":
            keys, comparing = [], False
        elif do == "compare":
            if len(keys) != 2:
                raise UserError(w("gallery.two"), "")
            comparing = not comparing
        elif do == "delete":
            desk.faces.delete(keys)
            gr.Info(w("gallery.deleted", count=len(keys)))
            keys, comparing = [], False
        elif do == "more":
            count += 1
        else:
            results.act(desk, do, id)
        if do in ("delete", "keep", "reject"):
            desk.changed()
        return keys, comparing, count, _shown(desk, *chosen, keys, comparing, count)

    shop.on(shown.click, on_shown, everything, [picked, side_by_side, pages, shown])


def _people(desk: Desk, chosen: str) -> Any:
    names = sorted({name for portrait in desk.faces.portraits() for name in portrait.people})
    return _choices(desk.w("gallery.anybody"), [(name, name) for name in names], chosen)


def _styles(desk: Desk, chosen: str) -> Any:
    used = {str(portrait.recipe.get("style") or "") for portrait in desk.faces.portraits()} - {""}
    titles = {style.id: desk.w.style_title(style.id, style.title) for style in desk.faces.styles()}
    return _choices(desk.w("gallery.any"), [(titles.get(id, id), id) for id in sorted(used)], chosen)


def _engines(desk: Desk, chosen: str) -> Any:
    used = {str(portrait.recipe.get("engine") or "") for portrait in desk.faces.portraits()} - {""}
    titles = {o.card.name: desk.w.engine_title(o.card.name, o.card.title) for o in desk.faces.engines()}
    return _choices(desk.w("gallery.any"), [(titles.get(id, id), id) for id in sorted(used)], chosen)


def _choices(first: str, known: list[tuple[str, str]], chosen: str) -> Any:
    values = {value for _, value in known}
    return choices([(first, ""), *known], chosen, chosen if chosen in values else "")


def _filtered(
    desk: Desk, person: str, style: str, engine: str, likeness: str, date: str, which: str
) -> list[KeptPortrait]:
    days = _DAYS.get(date or "")
    since = datetime.now(UTC) - timedelta(days=days) if days else None

    def fits(portrait: KeptPortrait) -> bool:
        return (
            (not person or person in portrait.people)
            and (not style or portrait.recipe.get("style") == style)
            and (not engine or portrait.recipe.get("engine") == engine)
            and (not likeness or all(v.call.name == likeness for v in portrait.verdicts))
            and (since is None or portrait.made >= since)
            and (which == "all" or portrait.verdicts[0].kept)
        )

    return [portrait for portrait in desk.faces.portraits() if fits(portrait)]


def _shown(desk: Desk, *values: Any) -> str:
    w = desk.w
    *chosen, keys, comparing, pages = values
    found = _filtered(desk, *chosen)
    if not found:
        if desk.faces.portraits():
            return empty(w("gallery.nothing"), w("gallery.nothing.next"))
        return empty(w("gallery.empty"), w("gallery.empty.next"), go(w("tab.create"), w("create.make")))
    by_key = {portrait.key: portrait for portrait in found}
    keys = [key for key in keys if key in by_key]
    cards = "".join(card(w, portrait, select=True, picked=portrait.key in keys) for portrait in found[: _PAGE * pages])
    more = button("more", w("gallery.more", count=len(found) - _PAGE * pages)) if len(found) > _PAGE * pages else ""
    both = _side_by_side(w, by_key[keys[0]], by_key[keys[1]]) if comparing and len(keys) == 2 else ""
    return f'{_tools(w, len(found), keys)}{both}<div class="grid portraits">{cards}</div>{more}'


def _tools(w: Words, found: int, keys: list[str]) -> str:
    count = f'<strong role="status">{esc(w("gallery.picked", count=len(keys), found=found))}</strong>'
    if not keys:
        return (
            f'<div class="panel-head tools">{count}<div class="line">'
            f"{button('all', w('gallery.pick_all'), kind='quiet')}</div></div>"
        )
    save = (
        f'<a class="btn" href="{url("export", keys=",".join(keys))}" download>'
        f"{esc(w('gallery.export', count=len(keys)))}</a>"
    )
    two = button("compare", w("gallery.compare")) if len(keys) == 2 else ""
    gone = button(
        "delete", w("gallery.delete", count=len(keys)), kind="danger", confirm=w("gallery.delete.sure", count=len(keys))
    )
    none = button("nothing", w("gallery.pick_none"), kind="quiet")
    return f'<div class="panel-head tools">{count}<div class="line">{two}{save}{gone}{none}</div></div>'


def _side_by_side(w: Words, one: KeptPortrait, other: KeptPortrait) -> str:
    def half(portrait: KeptPortrait) -> str:
        picture = url("pictures", "portrait", *portrait.key.split("/"), w=960)
        badges = "".join(call_badge(w, verdict) for verdict in portrait.verdicts)
        alt = w(
            "portrait.alt", who=", ".join(portrait.people), call=w(f"call.{portrait.verdicts[0].call.name.lower()}")
        )
        return (
            f'<figure class="half"><img src="{picture}" alt="{esc(alt)}"><figcaption><div class="badges">{badges}</div>'
            f'<small class="muted">{portrait.made:%Y-%m-%d %H:%M} · {esc(portrait.id)}</small></figcaption></figure>'
        )

    over = compare(
        w,
        url("pictures", "portrait", *one.key.split("/"), w=960),
        url("pictures", "portrait", *other.key.split("/"), w=960),
        w("gallery.second"),
    )
    return (
        f'<section class="panel" id="side-by-side"><h3>{esc(w("gallery.compare"))}</h3><div class="halves">'
        f"{half(one)}{half(other)}</div>{over}</section>"
    )
