"""Numbers that may be left empty: a text, as an empty number would look like a nought."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from facechain.errors import UserError
from facechain.ui.phrases import Words


@dataclass(frozen=True, kw_only=True)
class Optional:
    box: gr.Textbox
    label: str
    kind: Callable[[str], Any]
    least: float
    most: float

    def read(self, w: Words, text: str) -> Any:
        """None when empty. Raises UserError saying what was expected."""
        text = (text or "").strip()
        if not text:
            return None
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.least <= value <= self.most:
            what = w("field.bad", label=self.label, given=text[:40])
            raise UserError(what, w("field.bad.next", least=f"{self.least:g}", most=f"{self.most:g}"))
        return value


def choices(known: Sequence[Any], now: Any, wanted: Any, **more: Any) -> Any:
    """New choices; the value is touched only when it must change, or it would undo what is picked meanwhile."""
    return gr.update(choices=list(known), **({} if now == wanted else {"value": wanted}), **more)


def optional(
    w: Words, key: str, kind: Callable[[str], Any], least: float, most: float, help: str = "create.default", **more: Any
) -> Optional:
    """A field for the phrase `key`; to be called where it is to stand."""
    box = gr.Textbox("", label=w(key), info=w(help), max_length=24, **more)
    return Optional(box=box, label=w(key), kind=kind, least=least, most=most)
