"""Create: who, which look, which engine and why; then portraits as they come, each with its likeness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from facechain import bootstrap
from facechain.errors import UserError
from facechain.limits import PORTRAITS, SEED, TEXT, whole
from facechain.protocols import EngineCard
from facechain.types import Job, Style
from facechain.ui import results
from facechain.ui.desk import Desk, Shop
from facechain.ui.engines import default_base, explain, fits, lacks_picture, machine_line
from facechain.ui.fields import choices, optional
from facechain.ui.html import asked, badge, board, button, dropzone, empty, esc, go, url
from facechain.ui.phrases import Words

CONTROLS = ("openpose", "depth", "canny")
MOST = 24  # portraits asked for at once


def build(shop: Shop) -> None:
    w = shop.w
    first = next((style.id for style in bootstrap.studio().styles() if style.template_pack), "")
    style = gr.State(first)  # one that can start now is chosen to begin with
    pose = gr.State({})  # batch and name of a picture to follow
    hidden_run = gr.State("")  # a finished one that was cleared away
    nobody = board("create-nobody")
    with gr.Row(equal_height=False, elem_classes="split"):
        with gr.Column(scale=5, min_width=320):
            people = gr.CheckboxGroup(choices=[], label=w("create.people"), elem_id="create-people")
            looks = board("create-looks")
            prompt = gr.Textbox(
                "",
                label=w("create.prompt"),
                placeholder=w("create.prompt.hint"),
                lines=2,
                max_length=TEXT,
                elem_id="create-prompt",
            )
            with gr.Row():
                count = gr.Slider(1, MOST, value=4, step=1, label=w("create.count"), elem_id="create-count")
                keep = gr.Slider(1, MOST, value=4, step=1, label=w("create.keep"))
            engine = gr.Dropdown(
                choices=[(w("engine.auto"), "")], value="", label=w("create.engine"), elem_id="create-engine"
            )
            why = board("create-why")
            with gr.Accordion(w("create.advanced"), open=False):
                with gr.Row():
                    seed = optional(w, "create.seed", int, 0, SEED, "create.seed.help", elem_id="create-seed")
                    budget = optional(w, "create.budget", int, 1, 500, "create.budget.help")
                    floor = optional(w, "create.floor", float, -1, 1, "create.floor.help", elem_id="create-floor")
                strength = gr.Slider(
                    0, 1, value=1, step=0.05, label=w("create.strength"), info=w("create.strength.help")
                )
                shape = optional(w, "create.shape", float, 0, 1, "create.shape.help")
                with gr.Row():
                    steps = optional(w, "create.steps", int, 1, 200)
                    guidance = optional(w, "create.guidance", float, 0, 30)
                    scale = optional(w, "create.scale", float, 0, 2)
                likeness = optional(w, "create.likeness", float, 0, 1, "create.likeness.help")
                with gr.Row():
                    width = optional(w, "create.width", int, 64, 4096, "create.size.help")
                    height = optional(w, "create.height", int, 64, 4096, "create.size.help")
                posed = board("create-pose", _pose(w, {}))
                control = gr.Radio(
                    [(w(f"create.control.{kind}"), kind) for kind in CONTROLS],
                    value=CONTROLS[0],
                    label=w("create.control"),
                )
                negative = gr.Textbox("", label=w("create.negative"), max_length=TEXT)
                base = gr.Textbox("", label=w("create.base"), info=w("create.base.help", base=default_base(w)))
                loras = gr.Textbox(
                    "",
                    label=w("create.loras"),
                    info=w("create.loras.help"),
                    lines=2,
                    max_length=TEXT,
                    elem_id="create-loras",
                )
                format_ = gr.Radio(["png", "jpeg", "webp"], value="png", label=w("create.format"))
            make = gr.Button(w("create.make"), variant="primary", size="lg", elem_id="create-make")
        with gr.Column(scale=7, min_width=320):
            shown = board("create-results")

    shop.watch.add(nobody, _nobody, kinds=("enrol",))
    shop.watch.add(people, _choices, [people], kinds=("enrol",))
    shop.watch.add(looks, _looks, [style], kinds=("fetch",))
    shop.watch.add(engine, _engines, [engine], kinds=("fetch",))
    shop.watch.add(why, _why, [people, style, engine, base, shop.safe_only], kinds=("fetch", "enrol"))
    shop.watch.add(
        shown,
        lambda desk, hidden: results.shown(desk, results.newest(desk, template=False, hidden=hidden)),
        [hidden_run],
        kinds=("make",),
        live=True,
    )

    def on_look(request: gr.Request, event: gr.EventData, current: str, *given: Any) -> tuple[Any, ...]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        chosen = id if do == "style" and id != current else ("" if do == "style" else current)
        return chosen, _looks(desk, chosen), _why(desk, given[0], chosen, *given[1:])

    shop.on(looks.click, on_look, [style, people, engine, base, shop.safe_only], [style, looks, why])
    for changed in (people, engine, base):
        shop.draw(changed.change, _why, [people, style, engine, base, shop.safe_only], [why])

    def on_pose(request: gr.Request, event: gr.EventData, current: dict[str, str]) -> tuple[Any, ...]:
        desk, (do, id, fields) = shop.desk(request), asked(event)
        results.warn(w, fields)
        files = desk.uploads.files(id) if do == "uploaded" else []
        current = {"batch": id, "name": files[0].name} if files else {} if do == "discard" else current
        return current, _pose(w, current)

    shop.on(posed.click, on_pose, [pose], [pose, posed])

    def on_make(request: gr.Request, given: dict[Any, Any]) -> tuple[Any, ...]:
        desk, who, look = shop.desk(request), given[people], given[style]
        model = desk.check_base(given[base])
        chosen = _choose(desk, who, look, given[engine], model, given[shop.safe_only])
        filled = {name: field.read(w, given[field.box]) for name, field in finer.items()}
        card = next(offer.card for offer in desk.faces.engines(model) if offer.card.name == chosen)
        named = {finer[name].label: (name, v) for name, v in filled.items() if v is not None}
        if files := desk.own_files(given[loras]):
            named[w("create.loras")] = ("lora", files)
        options = suited(w, card, named)
        if chosen == "template":
            options |= {"identity_scale": float(given[strength])} if given[strength] != 1 else {}
        elif given[pose]:
            options["control"] = given[control]
        made, most = whole("count", given[count], 1, PORTRAITS), budget.read(w, given[budget.box])
        desk.submit(
            "make",
            results.arguments(
                who,
                engine=chosen,
                style=look,
                base=model,
                prompt=given[prompt],
                negative=given[negative],
                count=made,
                keep=min(whole("keep", given[keep], 1, PORTRAITS), most or made),
                budget=most,
                seed=seed.read(w, given[seed.box]),
                floor=floor.read(w, given[floor.box]),
                options=options,
                **{name: field.read(w, given[field.box]) for name, field in sides.items() if chosen != "template"},
                pose={"": str(desk.uploads.file(**given[pose]))} if "control" in options else {},
                format=given[format_],
            ),
        )
        return results.shown(desk, results.newest(desk, template=False)), ""

    sides = {"width_px": width, "height_px": height}
    finer = {
        "steps": steps,
        "guidance": guidance,
        "identity_scale": scale,
        "face_guidance_scale": likeness,
        "shape": shape,
    }
    fields = (seed, budget, floor, *sides.values(), *finer.values())
    others = {prompt, count, keep, strength, negative, loras, format_, pose, control}
    asked_for = {people, style, engine, base, shop.safe_only, *others, *(field.box for field in fields)}
    shop.look_at(make.click, "create-results")
    shop.on(make.click, on_make, asked_for, [shown, hidden_run])

    def again(desk: Desk, job: Job) -> dict[Any, Any]:
        """Every field as it was for that run."""
        was = {**job.arguments, **_current(job.arguments)}
        picture = _still_there(desk, (job.arguments.get("pose") or {}).get("", ""))
        texts = {"prompt": prompt, "negative": negative, "base": base, "engine": engine, "style": style}
        numbers = {"seed": seed, "budget": budget, "floor": floor, **sides, **finer}
        return {
            people: list(was["people"]),
            count: min(int(was.get("count", 4)), MOST),
            keep: min(int(was.get("keep", 4)), MOST),
            strength: was.get("identity_scale") or 1,
            control: was.get("control", CONTROLS[0]),
            loras: "\n".join([kept] if isinstance(kept := was.get("lora", []), str) else kept),
            format_: was.get("format", "png"),
            pose: picture,
            posed: _pose(w, picture),
            **{box: was.get(name, "") for name, box in texts.items()},
            **{field.box: str(was.get(name, "")) for name, field in numbers.items()},
        }

    def on_shown(request: gr.Request, event: gr.EventData, hidden: str) -> dict[Any, Any]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        fields: dict[Any, Any] = {}
        if do in ("clear", "dismiss"):
            hidden = id
        elif do == "again":
            job = desk.job(desk.faces.portrait(id).run)
            fields = again(desk, job)
            gr.Info(w("create.again", seed=job.arguments.get("seed")))
        else:
            results.act(desk, do, id)
        made = results.shown(desk, results.newest(desk, template=False, hidden=hidden))
        return {hidden_run: hidden, shown: made, **fields}

    filled = [*others, people, style, engine, base, posed, *(field.box for field in fields)]
    shop.on(shown.click, on_shown, [hidden_run], [hidden_run, shown, *filled])


def _pose(w: Words, picture: dict[str, str]) -> str:
    if not picture:
        return dropzone(w, w("create.pose"), "", many=False)
    shown = url("pictures", "upload", picture["batch"], picture["name"], w=240)
    return f'<div class="line"><img class="mini" src="{shown}" alt="">{button("discard", w("create.pose.none"))}</div>'


def _still_there(desk: Desk, path: str) -> dict[str, str]:
    """Batch and name of a picture a run followed; empty when it followed none, or it is gone."""
    *_, batch, name = ("", "", *Path(path).parts)
    try:
        desk.uploads.file(batch, name)
    except UserError:
        return {}
    return {"batch": batch, "name": name}


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def _nobody(desk: Desk) -> str:
    w = desk.w
    if desk.faces.people():
        return ""
    return empty(w("create.nobody"), w("create.nobody.next"), go(w("tab.people"), w("people.add")))


def _choices(desk: Desk, chosen: list[str]) -> Any:
    names = [person.name for person in desk.faces.people()]
    kept = [name for name in chosen or () if name in names]
    return choices(names, chosen, kept or names[:1], visible=bool(names))


def _engines(desk: Desk, chosen: str) -> Any:
    w = desk.w
    named = [(w.engine_title(o.card.name, o.card.title), o.card.name) for o in desk.faces.engines()]
    return choices([(w("engine.auto"), ""), *named], chosen, chosen or "")


def _looks(desk: Desk, chosen: str) -> str:
    """Styles by group, searchable; those that can be painted without a base model come first."""
    w = desk.w
    styles = sorted(desk.faces.styles(), key=lambda s: (not s.template_pack, s.group, s.title))
    groups = list(dict.fromkeys(s.group for s in styles if s.group))
    chips = "".join(
        f'<button type="button" class="chip" data-group="{esc(g)}" aria-pressed="{str(not g).lower()}">'
        f"{esc(w.group(g) if g else w('create.all'))}</button>"
        for g in ("", *groups)
    )
    cards = "".join(_look(desk, s, s.id == chosen) for s in styles)
    return (
        f'<div class="field-title" id="looks-title">{esc(w("create.style"))}</div>'
        f'<div class="line"><input type="search" class="search" data-search placeholder="{esc(w("create.search"))}" '
        f'aria-label="{esc(w("create.search"))}"></div>'
        f'<div class="chips" role="group" aria-label="{esc(w("create.groups"))}">{chips}</div>'
        f'<div class="grid looks" role="group" aria-labelledby="looks-title">{cards}</div>'
        f'<p class="muted" data-none hidden>{esc(w("create.none"))}</p>'
    )


def _look(desk: Desk, style: Style, chosen: bool) -> str:
    w = desk.w
    title = w.style_title(style.id, style.title)
    words = f"{title} {style.title} {style.group} {w.group(style.group)} {style.id.replace('_', ' ')}"
    here = badge(w("create.here"), "good") if style.template_pack and not lacks_picture(desk, style) else ""
    return (
        f'<button type="button" class="card look" data-do="style" data-id="{esc(style.id)}"'
        f' aria-pressed="{str(chosen).lower()}" '
        f'data-words-of="{esc(words)}" data-group-of="{esc(style.group)}">'
        f'<img src="{url("pictures", "style", style.id, w=240)}" alt="" loading="lazy">'
        f'<span class="look-title">{esc(title)}</span>{here}</button>'
    )


def _why(desk: Desk, people: list[str], look: str, engine: str, base: str, safe_only: bool) -> str:
    w = desk.w
    found = fits(desk, people or (), desk.faces.style(look), base or "", safe_only)
    chosen = next((f for f in found if f.offer.card.name == engine), None) if engine else found[0]
    if chosen is None:
        return ""
    if not engine and not chosen.ready:
        line = w("engine.none") if look else w("engine.choose_style")
    else:
        line = w("engine.by_hand") if engine else w("engine.because")
    return f'<p class="muted">{esc(line)} {esc(machine_line(w))}</p>' + (
        explain(w, chosen, chosen=True) if engine or chosen.ready else _others(w, found)
    )


def _others(w: Words, found: list[Any]) -> str:
    cards = "".join(explain(w, fit, chosen=False) for fit in found[:4])
    return f'<details class="fold"><summary>{esc(w("engine.all"))}</summary><div class="stack">{cards}</div></details>'


def _current(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an earlier run, under today's names."""
    options, engine = arguments.get("options") or {}, arguments.get("engine")
    cards = {offer.card.name: offer.card for offer in bootstrap.studio().engines()}
    return cards[engine].params.current_names(options) if engine in cards else dict(options)


def suited(w: Words, card: EngineCard, filled: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Options under the engine's own names, from label → name and value of the fields that were filled in.

    Raises UserError for a field the engine has no use for: what was asked for is not left out in silence.
    """
    made: dict[str, Any] = {}
    for label, (name, value) in filled.items():
        if name not in card.params.names():
            what = w("create.unused", label=label, engine=w.engine_title(card.name, card.title))
            raise UserError(what, w("create.unused.next"))
        made[name] = value
    return made


def _choose(desk: Desk, people: list[str], look: str, engine: str, base: str, safe_only: bool) -> str:
    """The engine's name. Raises UserError saying what stands in the way."""
    w = desk.w
    if not people:
        raise UserError(w("create.need.person"), "")
    found = fits(desk, people, desk.faces.style(look), base, safe_only)
    chosen = next((f for f in found if f.offer.card.name == engine), found[0])
    if not chosen.ready:
        if not look and not engine:
            raise UserError(w("create.need.style"), "")
        raise UserError(w("create.cannot"), " ".join(chosen.obstacles))
    return chosen.offer.card.name
