"""The pieces that show a portrait: how alike, whether a copy, what can be done with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from facechain.judge.copying import COPY
from facechain.judge.judge import CLEAR
from facechain.judge.warp import WARPED
from facechain.portraits.provenance import infotext
from facechain.types import Call, Verdict
from facechain.ui.html import badge, button, esc, url
from facechain.ui.phrases import Words

if TYPE_CHECKING:
    from facechain.store.workspace import KeptPortrait

_KINDS = {Call.SAME: "good", Call.UNSURE: "warn", Call.OTHER: "bad"}


def call_badge(w: Words, verdict: Verdict) -> str:
    """As words and number, the evidence, or the likeness in records without it: "Same person 9.5"."""
    number = (
        "" if verdict.likeness is None else f" {verdict.likeness:.2f}" if verdict.llr is None else f" {verdict.llr:.1f}"
    )
    words = w(f"call.{verdict.call.name.lower()}") if verdict.likeness is not None else w("call.no_face")
    return badge(f"{words}{number}", _KINDS[verdict.call], w("call.help"))


def doubt_badges(w: Words, verdict: Verdict) -> str:
    """Why the judge is unsure, and what else speaks against a face."""
    shown = []
    if verdict.likeness is not None and verdict.call is Call.UNSURE:
        if verdict.closer:
            share = max(1, round(verdict.cohort / verdict.closer))
            shown.append(badge(w("doubt.lookalikes", share=share), "warn"))
        elif verdict.recognisability is not None and verdict.recognisability < CLEAR:
            shown.append(badge(w("doubt.unrecognisable"), "warn", w("doubt.unrecognisable.help")))
    if verdict.disagree:
        shown.append(badge(w("doubt.disagree"), "warn"))
    if verdict.warp is not None and verdict.warp >= WARPED:
        shown.append(badge(w("doubt.warp"), "warn"))
    return "".join(shown)


def copy_badge(w: Words, verdict: Verdict) -> str:
    if verdict.copy_score is None or verdict.copy_score <= COPY:
        return ""
    return badge(w("copy.warning"), "warn", w("copy.help", score=f"{verdict.copy_score:.2f}"))


def notes(w: Words, portrait: KeptPortrait) -> str:
    """Why it was kept or not; in English as the judge put it, otherwise in our own words."""
    verdict = portrait.verdicts[0]
    if w.language == "en":
        return verdict.why
    if "by hand" in verdict.why:
        return w("why.kept_by_hand") if verdict.kept else w("why.dropped_by_hand")
    said = [w("why.kept") if verdict.kept else w("why.dropped")]
    if not verdict.held_out:
        said.append(w("why.seen"))
    return " ".join(said)


def card(w: Words, portrait: KeptPortrait, *, before: str = "", select: bool = False, picked: bool = False) -> str:
    """`before` is the address of the picture painted into; `select` adds a box to choose it for an action."""
    key, verdict = portrait.key, portrait.verdicts[0]
    parts = key.split("/")
    who = ", ".join(portrait.people)
    alt = w("portrait.alt", who=who, call=w(f"call.{verdict.call.name.lower()}"))
    picture = url("pictures", "portrait", *parts, w=480)
    whole = url("pictures", "portrait", *parts)
    shown = (
        f'<a class="shot" href="{whole}" target="_blank" rel="noopener">'
        f'<img src="{picture}" alt="{esc(alt)}" loading="lazy"></a>'
    )
    if before:
        shown = compare(w, before, url("pictures", "portrait", *parts, w=960), alt, static=shown)
    badges = "".join(
        (f'<span class="who">{esc(v.person)}</span>' if len(portrait.verdicts) > 1 else "")
        + call_badge(w, v)
        + doubt_badges(w, v)
        + copy_badge(w, v)
        for v in portrait.verdicts
    )
    box = (
        '<label class="pick">'
        f'<input type="checkbox" data-change="pick" data-id="{esc(key)}"{" checked" if picked else ""} '
        f'aria-label="{esc(w("gallery.pick", who=who))}"></label>'
        if select
        else ""
    )
    keep = button("keep", w("portrait.keep"), key, "small", pressed=verdict.kept)
    drop = button("reject", w("portrait.reject"), key, "small", pressed=not verdict.kept)
    save = (
        f'<a class="btn small" href="{url("pictures", "portrait", *parts, save=1)}" download>'
        f"{esc(w('portrait.save'))}</a>"
    )
    again = "" if select else button("again", w("portrait.again"), key, "small quiet", w("portrait.again.label"))
    state = "kept" if verdict.kept else "dropped"
    return (
        f'<article class="portrait {state}" data-key="{esc(key)}">{box}{shown}<div class="portrait-body">'
        '<div class="badges">'
        f"{badge(w('portrait.kept'), 'good') if verdict.kept else badge(w('portrait.dropped'))}{badges}</div>"
        f'<p class="why">{esc(notes(w, portrait))}</p><div class="line">{keep}{drop}{save}{again}</div>'
        f"{recipe(w, portrait)}</div></article>"
    )


def compare(w: Words, before: str, after: str, alt: str, static: str = "") -> str:
    """Two pictures over each other and a handle between them, behind a fold so that the result comes first."""
    slider = (
        f'<div class="compare" style="--cut:50%"><img src="{before}" alt="{esc(w("compare.before"))}" loading="lazy">'
        f'<img class="over" src="{after}" alt="{esc(alt)}" loading="lazy">'
        f'<input type="range" min="0" max="100" value="50" data-cut aria-label="{esc(w("compare.label"))}">'
        f'<span class="tag left">{esc(w("compare.before"))}</span><span class="tag right">'
        f"{esc(w('compare.after'))}</span></div>"
    )
    return f'{static}<details class="fold"><summary>{esc(w("compare.title"))}</summary>{slider}</details>'


def recipe(w: Words, portrait: KeptPortrait) -> str:
    words = infotext(portrait.recipe)
    full = json.dumps(portrait.recipe, indent=1, ensure_ascii=False)
    return (
        f'<details class="fold"><summary>{esc(w("portrait.recipe"))}</summary><pre tabindex="0">{esc(words)}</pre>'
        f'<pre class="small" tabindex="0">{esc(full)}</pre></details>'
    )


def summary(w: Words, portraits: Sequence[KeptPortrait]) -> str:
    kept = sum(p.verdicts[0].kept for p in portraits)
    same = sum(all(v.call is Call.SAME for v in p.verdicts) for p in portraits)
    return w("results.summary", made=len(portraits), kept=kept, same=same)
