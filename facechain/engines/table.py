"""Every engine by name. Listing reads cards only; an engine's heavy libraries are imported when it is opened."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facechain.engines.about import about, card_on, fits
from facechain.engines.identity.open import IDENTITY, Shelf
from facechain.engines.lora.card import CARD as LORA
from facechain.engines.template.card import CARD as TEMPLATE
from facechain.errors import ConfigError, EngineError, FaceChainError, PackError, PackMissing
from facechain.params import with_choices
from facechain.protocols import Engine, EngineCard, FaceReader, Ground, Landmarker, Parser

if TYPE_CHECKING:
    from facechain.engines.diffusion.base import BaseRef
    from facechain.engines.diffusion.model_cache import ModelCache
    from facechain.engines.diffusion.session import DiffusionContext


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What an engine may be handed; everything is opened only when asked for."""

    path: Callable[[str, str], Path]  # a file of a pack
    revision: Callable[[str], str]  # names a pack's bytes
    folder: Callable[[str], Path]  # where what is learned of a person is kept
    reader: Callable[[str], FaceReader]  # by name
    coach: Callable[[], FaceReader]  # chooses among checkpoints; never the judge
    landmarker: Callable[[], Landmarker]
    parser: Callable[[], Parser]
    configs: Path
    models: Callable[[], ModelCache]  # shared by all engines of a process
    base: Path | None = None  # diffusers folder or .safetensors file
    base_pack: str = ""  # when it is a pack
    train: Mapping[str, Any] = field(default_factory=dict)  # settings for engines that learn by training


@dataclass(frozen=True, kw_only=True)
class Entry:
    card: EngineCard
    open: Callable[[Workshop], Engine]


def _base(workshop: Workshop, vae: Path | None = None) -> BaseRef:
    from facechain.engines.diffusion.base import BaseRef, layout_beside

    if workshop.base is None:
        raise EngineError(
            "This engine paints with a Stable Diffusion base, and none is named.",
            "Give --base FOLDER (diffusers) or --base FILE.safetensors, or set base in configs/app.toml.",
        )
    layout, vocabulary = layout_beside(workshop.base), None
    if layout is None and not workshop.base.is_dir():
        vocabulary = workshop.path("clip_vocabulary", "bpe_simple_vocab_16e6.txt.gz")
    return BaseRef(path=workshop.base, vae=vae, layout=layout, vocabulary=vocabulary)


def _template(workshop: Workshop) -> Engine:
    from facechain.engines.template.engine import TemplateEngine

    return TemplateEngine(workshop.landmarker(), workshop.parser())


def _lora(workshop: Workshop) -> Engine:
    from facechain.engines.lora.engine import LoraEngine
    from facechain.engines.lora.settings import TrainSettings

    train = dict(workshop.train)
    vae, processes, prepare = (train.pop(name, None) for name in ("vae", "processes", "prepare"))
    context = _context(workshop, Path(vae) if vae else None)
    effort, usual = train.pop("effort", 1), _usual(workshop)
    if effort != 1:
        train.setdefault("steps", _steps(TrainSettings.parse(usual, "The base").steps, effort))
    engine = LoraEngine(
        context=context,
        folder=workshop.folder,
        coach=workshop.coach,
        settings=TrainSettings.parse({**usual, **train}, "A training") if train else None,
        usual=usual,
        processes=int(processes or 1),
        prepare_only=bool(prepare),
    )
    return _on_base(engine, workshop)


def _context(workshop: Workshop, vae: Path | None = None) -> DiffusionContext:
    from facechain.engines.diffusion.samplers import read_fast
    from facechain.engines.diffusion.session import DiffusionContext

    return DiffusionContext(
        base=lambda: _base(workshop, vae),
        models=workshop.models(),
        pack=workshop.path,
        controlnet=functools.partial(_controlnet, workshop),
        fast=read_fast(workshop.configs / "fast"),
        landmarker=workshop.landmarker,
        parser=workshop.parser,
    )


def _usual(workshop: Workshop) -> dict[str, Any]:
    """What a training on this base differs in from the defaults of `TrainSettings`."""
    from facechain.engines.diffusion.base import family_of
    from facechain.engines.lora.engine import RESOLUTION_PX

    if workshop.base is None:
        return {}
    said = about(workshop.base)
    side = said.side_px or RESOLUTION_PX[family_of(workshop.base)]
    return {"resolution_px": side, **said.train}


def _steps(usual: int, effort: Any) -> int:
    try:
        return max(1, round(usual * float(effort)))
    except (TypeError, ValueError):
        raise ConfigError(f"effort is {effort!r}.", "Give a number; 1 is the usual.") from None


def _controlnet(workshop: Workshop, kind: str, family: str, named: str = "") -> Path:
    """A ControlNet's folder or file: the person's own, or that of a pack, by default the one for kind and family."""
    if named and Path(named).exists():
        return Path(named)
    pack, own = named or f"control_{kind}_{family}", f"give one of your own: --set controlnet_{kind}=FOLDER or FILE."
    try:
        return workshop.path(pack, "config.json").parent
    except PackMissing as error:
        raise PackMissing(error.what, f"{error.next_step}, or {own}") from None
    except PackError:
        raise EngineError(f"There is no ControlNet {pack!r}.", f"{own[0].upper()}{own[1:]}") from None


def _identity(card: EngineCard, open_one: Callable[[Shelf], Engine]) -> Callable[[Workshop], Engine]:
    def make(workshop: Workshop) -> Engine:
        from facechain.engines.diffusion.base import family_of

        family_of(_base(workshop).path)  # a damaged base is told before an engine's missing files
        _fits(card, workshop)
        engine = open_one(
            Shelf(
                context=_context(workshop),
                pack=workshop.path,
                reader=workshop.reader,
                parser=workshop.parser,
                revision=workshop.revision,
                folder=workshop.base,
                brings=about(workshop.base).identity,
            )
        )
        return _on_base(engine, workshop)

    return make


def _fits(card: EngineCard, workshop: Workshop) -> None:
    """Raises EngineError when these weights are for another family of bases."""
    on = ground(workshop.base)
    if on.family and card.name not in on.fits:
        raise EngineError(
            f"{card.title} is for published {' or '.join(card.bases)} bases, and {on.title} is "
            f"{'one of its own kind' if on.family in card.bases else on.family}.",
            "Name another base with --base, or choose another engine: see `facechain engines`.",
        )


def _on_base(engine: Any, workshop: Workshop) -> Engine:
    """The engine with its card as it is on the base."""
    from facechain.engines.diffusion.base import family_of

    if workshop.base is not None:
        engine.card = card_on(engine.card, about(workshop.base), family_of(workshop.base), workshop.base_pack)
    return engine


def ground(base: Path | None, pack: str = "", title: str = "", note: str = "", fast: Collection[str] = ()) -> Ground:
    """A base and every engine as it is on it, with the `fast` modes there are. Where nothing can be painted on there
    is no family."""
    from facechain.engines.diffusion.base import family_of

    cards = [_choosing_fast(entry.card, tuple(fast)) for entry in ENGINES.values()]
    bare = frozenset(card.name for card in cards if not card.bases)
    try:
        family = family_of(base) if base is not None else ""
        said = about(base)
    except FaceChainError as error:
        return Ground(cards=tuple(cards), fits=bare, problem=str(error))
    named = title or (base.name if base is not None else "")
    return Ground(
        family=family,
        title=named,
        note=note,
        cards=tuple(card_on(card, said, family, pack) for card in cards),
        fits=frozenset(card.name for card in cards if fits(card, said, family)),
    )


def _choosing_fast(card: EngineCard, modes: tuple[str, ...]) -> EngineCard:
    return replace(card, params=with_choices(card.params, "fast", ("", *modes))) if modes else card


ENGINES: dict[str, Entry] = {
    "template": Entry(card=TEMPLATE, open=_template),
    "lora": Entry(card=LORA, open=_lora),
    **{name: Entry(card=card, open=_identity(card, open_one)) for name, (card, open_one) in IDENTITY.items()},
}
