"""Template: a picture of one's own, its faces numbered, who goes where, how strongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from facechain.errors import UserError
from facechain.photos.read import read_reduced
from facechain.ui import results
from facechain.ui.desk import Desk, Shop
from facechain.ui.html import asked, board, button, dropzone, empty, esc, go, notice, url

_MOST = 6  # faces that can be given to somebody


def build(shop: Shop) -> None:
    w = shop.w
    picture = gr.State({})  # batch, name, faces as left, top, width, height in shares of the picture
    hidden = gr.State("")
    with gr.Row(equal_height=False, elem_classes="split"):
        with gr.Column(scale=5, min_width=320):
            nobody = board("template-nobody")
            drop = board("template-drop", dropzone(w, w("template.drop"), w("template.drop.help"), many=False))
            faces = board("template-faces", empty(w("template.empty"), w("template.empty.next")))
            who = [
                gr.Dropdown(
                    choices=[],
                    label=w("template.face", number=number),
                    visible=False,
                    interactive=True,
                    elem_id=f"template-face-{number}",
                )
                for number in range(1, _MOST + 1)
            ]
            strength = gr.Slider(0, 1, value=1, step=0.05, label=w("create.strength"), info=w("create.strength.help"))
            with gr.Row():
                count = gr.Slider(1, 24, value=2, step=1, label=w("create.count"), elem_id="template-count")
                seed = gr.Number(label=w("create.seed"), info=w("create.seed.help"), precision=0, value=None)
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
        desk, (do, id, fields) = shop.desk(request), asked(event)
        results.warn(w, fields)
        files = desk.uploads.files(id) if do == "uploaded" else []
        if not files:
            return [gr.skip()] * (2 + _MOST)
        boxes = _boxes(desk, files[0])
        names = [person.name for person in desk.faces.people()]
        state = {"batch": id, "name": files[0].name, "faces": boxes}
        largest = max(range(len(boxes)), key=lambda at: boxes[at][2] * boxes[at][3], default=-1)
        choices = [(w("template.leave"), ""), *((name, name) for name in names)]
        drops = [
            gr.update(visible=at < len(boxes), choices=choices, value=names[0] if names and at == largest else "")
            for at in range(_MOST)
        ]
        return [state, _faces(desk, state), *drops]

    shop.on(drop.click, on_drop, None, [picture, faces, *who])

    def on_faces(request: gr.Request, event: gr.EventData, state: dict[str, Any]) -> Any:
        desk, (do, _, _) = shop.desk(request), asked(event)
        if do == "discard" and state:
            desk.uploads.drop(state["batch"])
            state = {}
        return [state, _faces(desk, state), *[gr.update(visible=False)] * _MOST]

    shop.on(faces.click, on_faces, [picture], [picture, faces, *who])

    def on_make(
        request: gr.Request, state: dict[str, Any], strength: float, count: float, seed: float | None, *chosen: str
    ) -> tuple[Any, ...]:
        desk = shop.desk(request)
        if not state:
            raise UserError(w("template.need.picture"), "")
        if not state["faces"]:
            raise UserError(w("template.no_face"), "")
        given = [(at, name) for at, name in enumerate(chosen[: len(state["faces"])]) if name]
        if not given:
            raise UserError(w("template.need.who"), "")
        if len({name for _, name in given}) < len(given):
            raise UserError(w("template.twice"), "")
        desk.submit(
            "make",
            results.arguments(
                [name for _, name in given],
                engine="template",
                template=str(desk.uploads.file(state["batch"], state["name"])),
                slots=[at for at, _ in given],
                count=int(count),
                keep=int(count),
                seed=int(seed) if seed is not None else None,
                options={"strength": float(strength)} if strength != 1 else {},
            ),
        )
        return results.shown(desk, results.newest(desk, template=True)), ""

    shop.on(make.click, on_make, [picture, strength, count, seed, *who], [shown, hidden])

    def on_shown(request: gr.Request, event: gr.EventData, hidden: str) -> tuple[Any, ...]:
        desk, (do, id, _) = shop.desk(request), asked(event)
        number: Any = gr.skip()
        if do in ("clear", "dismiss"):
            hidden = id
        elif do == "again":
            number = desk.faces.portrait(id).recipe.get("seed")
            gr.Info(w("create.again", seed=number))
        else:
            results.act(desk, do, id)
        return hidden, results.shown(desk, results.newest(desk, template=True, hidden=hidden)), number

    shop.on(shown.click, on_shown, [hidden], [hidden, shown, seed])


def _boxes(desk: Desk, picture: Path) -> list[list[float]]:
    """Left, top, width and height of each face as shares of the picture, left to right."""
    small, reduction = read_reduced(picture, 480)
    height, width = (side * reduction for side in small.pixels.shape[:2])
    found = [face.box_px.tolist() for face in desk.faces.faces(picture)]
    return [[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height] for x0, y0, x1, y1 in found]


def _nobody(desk: Desk) -> str:
    w = desk.w
    if desk.faces.people():
        return ""
    return empty(w("create.nobody"), w("create.nobody.next"), go(w("tab.people"), w("people.add")))


def _faces(desk: Desk, state: dict[str, Any]) -> str:
    """The picture with its faces numbered from the left."""
    w = desk.w
    if not state:
        return empty(w("template.empty"), w("template.empty.next"))
    boxes = "".join(
        f'<span class="face" style="left:{x:.2%};top:{y:.2%};width:{wide:.2%};height:{high:.2%}"><b>{number}</b></span>'
        for number, (x, y, wide, high) in enumerate(state["faces"], 1)
    )
    picture = url("pictures", "upload", state["batch"], state["name"], w=960)
    found = w("template.found", count=len(state["faces"])) if state["faces"] else w("template.no_face")
    return (
        f'<figure class="faces-picture"><div><img src="{picture}" alt="{esc(state["name"])}">{boxes}</div></figure>'
        f"{notice(found, '' if state['faces'] else 'bad')}{button('discard', w('template.other'), kind='quiet small')}"
    )
