"""Which engine suits what somebody has, and why; in words for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facechain import bootstrap
from facechain.errors import UserError
from facechain.studio import Offer
from facechain.types import Style
from facechain.ui.desk import Desk
from facechain.ui.html import badge, esc
from facechain.ui.phrases import Words


@dataclass(frozen=True, kw_only=True)
class Machine:
    cores: int
    memory_gb: float
    gpu: bool


@dataclass(frozen=True, kw_only=True)
class Fit:
    """An engine for a wish: `obstacles` empty means that it can start now."""

    offer: Offer
    obstacles: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return not self.obstacles


def machine() -> Machine:
    """Read without loading anything heavy."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):  # Windows
        memory = 0.0
    gpu = Path("/dev/nvidia0").exists() or bool(os.environ.get("CUDA_VISIBLE_DEVICES"))
    return Machine(cores=os.cpu_count() or 1, memory_gb=memory, gpu=gpu)


def fits(
    desk: Desk, people: Sequence[str], style: Style, base: str, safe_only: bool, template: bool = False
) -> list[Fit]:
    """Every engine: first those that can start, and of these the ones that need no training."""
    photos = min((p.photos + p.held_out for p in desk.faces.people() if p.name in people), default=0)
    painted_into = template or bool(style.template_pack)
    here = (desk.w("engine.missing", packs=style.template_pack),) if lacks_picture(desk, style) else ()
    found = [
        Fit(offer=offer, obstacles=here + _obstacles(desk, offer, photos, len(people), painted_into, safe_only))
        for offer in offers(desk, base)
    ]
    return sorted(found, key=lambda fit: (not fit.ready, fit.offer.card.learns != "instantly"))


def offers(desk: Desk, base: str) -> tuple[Offer, ...]:
    """The engines on a base; on the default one when this person may not name that one."""
    try:
        return desk.faces.engines(desk.check_base(base))
    except UserError:
        return desk.faces.engines()


def lacks_picture(desk: Desk, style: Style) -> bool:
    """Whether the picture this look paints into has not been fetched."""
    return bool(style.template_pack) and not desk.faces.tools.packs.status(style.template_pack).present


def _obstacles(
    desk: Desk, offer: Offer, photos: int, people: int, painted_into: bool, safe_only: bool
) -> tuple[str, ...]:
    w, card, said = desk.w, offer.card, []
    if painted_into and not card.paints_canvas:
        said.append(w("engine.not_into"))
    if not painted_into and card.needs_canvas:
        said.append(w("engine.needs_picture"))
    if people > 1 and not card.needs_canvas:
        said.append(w("engine.one_person"))
    if photos and photos < card.min_photos:
        said.append(w("engine.few_photos", need=card.min_photos, have=photos))
    if offer.needs_base:
        said.append(offer.base_problem or w("engine.no_base", families=", ".join(card.bases)))
    if offer.needs_packages:
        said.append(w("engine.no_packages"))
    if offer.missing:
        said.append(w("engine.missing", packs=", ".join(offer.missing)))
    if safe_only and offer.commercial != "yes":
        said.append(w("engine.not_safe"))
    return tuple(said)


def explain(w: Words, fit: Fit, chosen: bool) -> str:
    """What is painted with, and why this one; or what stands in the way."""
    card = fit.offer.card
    learns = w("engine.instantly") if card.learns == "instantly" else w("engine.training")
    licence = badge(
        w(f"commercial.{fit.offer.commercial}"), {"yes": "good", "no": "bad"}.get(fit.offer.commercial, "warn")
    )
    state = badge(w("engine.ready"), "good") if fit.ready else badge(w("engine.not_yet"), "warn")
    why = "".join(f"<li>{esc(line)}</li>" for line in fit.obstacles)
    mark = badge(w("engine.chosen"), "accent") if chosen else ""
    on = f'<p class="muted">{esc(painted_on(w, fit.offer))}</p>' if fit.offer.base else ""
    return (
        f'<div class="card engine{" chosen" if chosen else ""}"><div class="badges">{mark}{state}{licence}</div>'
        f"<strong>{esc(w.engine_title(card.name, card.title))}</strong>"
        f'<p class="muted">{esc(w.engine_summary(card.name, card.summary))} {esc(learns)}</p>{on}'
        f"{f'<ul>{why}</ul>' if why else ''}</div>"
    )


def default_base(w: Words) -> str:
    """The base in use where none is named."""
    return bootstrap.studio().tools.ground("").title or w("base.none")


def painted_on(w: Words, offer: Offer) -> str:
    """The base, and what it is."""
    return w("engine.on", base=offer.base, note=w.base_note(offer.base_note)).strip()


def machine_line(w: Words) -> str:
    have = machine()
    memory = w("machine.memory", gb=f"{have.memory_gb:.0f}") if have.memory_gb else ""
    return w("machine.line", cores=have.cores, memory=memory, gpu=w("machine.gpu" if have.gpu else "machine.no_gpu"))
