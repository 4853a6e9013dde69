"""Template: a picture of one's own, its faces numbered, who goes where, how strongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from facechain.errors import UserError
from facechain.limits import PORTRAITS, SEED, whole
from facechain.ui import results
from facechain.ui.desk import Desk, Shop
from facechain.ui.fields import optional
from facechain.ui.html import asked, board, button, dropzone, empty, esc, go, notes, notice, url
from facechain.ui.phrases import Words


def build(shop: Shop) -> None:
    w = shop.w
    picture = gr.State(
        {}
    )  # batch, name, ratio of its sides, notes; faces: left, top, width, height in its shares; who: face → name
    hidden = gr.State("")
    with gr.Row(equal_height=False, elem_classes="split"):
        with gr.Column(scale=5, min_width=320):
            nobody = board("template-nobody")
            drop = board("template-drop", dropzone(w, w("template.drop"), w("template.drop.help"), many=False))
            faces = board("template-faces")
            strength = gr.Slider(0, 1, value=1, step=0.05, label=w("create.strength"), info=w("create.strength.help"))
            with gr.Row():
                count = gr.Slider(1, 24, value=2, step=1, label=w("create.count"), elem_id="template-count")
                seed = optional(w, "create.seed", int, 0, SEED, "create.seed.help")
            make = gr.Button(w("create.make"), variant="primary", size="lg", elem_id="template-make")
        with gr.Column(scale=7, min_width=320):
            shown = board("template-results")

    shop.watch.add(nobody, _nobody, kinds=("enrol",))
    shop.watch.add(
        shown,
        lambda desk, hidden: results.shown(desk, results.newest(desk, template=True, hidden=hidden)),
        [hidden],
        kinds=("make",),
        live=True,
    )

    def on_drop(request: gr.Request, event: gr.EventData) -> Any:
        desk, (do, id, _) = shop.desk(request), asked(event)
        files = desk.uploads.files(id) if do == "uploaded" else []
        if not files:
            return gr.skip(), gr.skip()
        boxes, ratio, said = _boxes(desk, files[0])
        names = _names(desk)
        largest = max(range(len(boxes)), key=lambda at: boxes[at][2] * boxes[at][3], default=-1)
        who = {str(largest): names[0]} if boxes and names else {}
        state = {"batch": id, "name": files[0].name, "ratio": ratio, "faces": boxes, "who": who, "notes": said}
        return state, _faces(desk, state)

    shop.on(drop.click, on_drop, None, [picture, faces])

    def on_faces(request: gr.Request, event: gr.EventData, state: dict[str, Any]) -> Any:
        desk, (do, id, _) = shop.desk(request), asked(event)
        if do == "discard" and state:
            desk.uploads.drop(state["batch"])
            state = {}
        elif do == "face" and state and id.isdecimal() and int(id) < len(state["faces"]):
            state = {**state, "who": _next(state["who"], id, _names(desk))}
        return state, _faces(desk, state)

    shop.on(faces.click, on_faces, [picture], [picture, faces])

    def on_make(
        request: gr.Request, state: dict[str, Any], strength: float, count: float, number: str
    ) -> tuple[Any, ...]:
        desk = shop.desk(request)
        if not state:
            raise UserError(w("template.need.picture"), "")
        if not state["faces"]:
            raise UserError(w("template.no_face"), "")
        given = sorted((int(at), name) for at, name in state["who"].items())
        if not given:
            raise UserError(w("template.need.who"), "")
        desk.submit(
            "make",
            results.arguments(
                [name for _, name in given],
                engine="template",
                template=str(desk.uploads.file(state["batch"], state["name"])),
                slots=[at for at, _ in given],
                count=whole("count", count, 1, PORTRAITS),
                keep=whole("keep", count, 1, PORTRAITS),
                seed=seed.read(w, number),
                options={"identity_scale": float(strength)} if strength != 1 else {},
            ),
        )
        return results.shown(desk, results.newest(desk, template=True)), ""

    shop.look_at(make.click, "template-results")
    shop.on(make.click, on_make, [picture, strength, count, seed.box], [shown, hidden])

    def on_shown(request: gr.Request, event: gr.EventData, hidden: str) -> tuple[Any, ...]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        number: Any = gr.skip()
        if do in ("clear", "dismiss"):
            hidden = id
        elif do == "again":
            number = str(desk.faces.portrait(id).recipe.get("seed"))
            gr.Info(w("create.again", seed=number))
        else:
            results.act(desk, do, id)
        return hidden, results.shown(desk, results.newest(desk, template=True, hidden=hidden)), number

    shop.on(shown.click, on_shown, [hidden], [hidden, shown, seed.box])


def _boxes(desk: Desk, picture: Path) -> tuple[list[list[float]], float, list[dict[str, Any]]]:
    """Left, top, width and height of each face as shares of the upright picture, left to right; the picture's width by
    its height; and the notes on it."""
    photo, faces, _ = desk.faces.faces(picture)
    height, width = photo.pixels.shape[:2]
    found = [face.box_px.tolist() for face in faces]
    boxes = [[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height] for x0, y0, x1, y1 in found]
    return boxes, width / height, [vars(note) for note in photo.notes]


def _names(desk: Desk) -> list[str]:
    return [person.name for person in desk.faces.people()]


def _next(who: dict[str, str], at: str, names: list[str]) -> dict[str, str]:
    """The face goes to whoever comes next and is not in the picture yet; after the last, to nobody."""
    others = {face: name for face, name in who.items() if face != at}
    free = [name for name in names if name not in others.values()]
    after = free[free.index(who[at]) + 1 :] if who.get(at) in free else free
    return others | ({at: after[0]} if after else {})


def _face(w: Words, at: int, box: list[float], who: str) -> str:
    left, top, wide, high = box
    label = w("template.face", number=at + 1, who=who or w("template.leave"))
    return (
        f'<button type="button" class="face{" taken" if who else ""}" data-do="face" data-id="{at}" '
        f'aria-label="{esc(label)}" title="{esc(label)}" '
        f'style="left:{left:.2%};top:{top:.2%};width:{wide:.2%};height:{high:.2%}"><b>{at + 1} {esc(who)}</b></button>'
    )


def _nobody(desk: Desk) -> str:
    w = desk.w
    if desk.faces.people():
        return ""
    return empty(w("create.nobody"), w("create.nobody.next"), go(w("tab.people"), w("people.add")))


def _faces(desk: Desk, state: dict[str, Any]) -> str:
    """The picture with its faces numbered from the left."""
    w = desk.w
    if not state:
        return ""
    boxes = "".join(_face(w, at, box, state["who"].get(str(at), "")) for at, box in enumerate(state["faces"]))
    picture = url("pictures", "upload", state["batch"], state["name"], w=960, upright=1)
    found = w("template.found", count=len(state["faces"])) if state["faces"] else w("template.no_face")
    said = notice(found, "" if state["faces"] else "bad") + notes(w, state["notes"])
    return (
        f'<figure class="faces-picture"><div style="aspect-ratio:{state["ratio"]:.4f}">'
        f'<img src="{picture}" alt="{esc(state["name"])}">{boxes}</div></figure>'
        f"{said}{button('discard', w('template.other'), kind='quiet small')}"
    )
