"""One person before one base in one style: weights go in at the first shot, and anew when a shot asks otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from facechain.config import build
from facechain.engines.diffusion.base import BaseRef, assemble
from facechain.engines.diffusion.controls import KINDS, Control
from facechain.engines.diffusion.lead import Lead, lead_to
from facechain.engines.diffusion.loras import LoraRef, named_loras, put_in
from facechain.engines.diffusion.native import native
from facechain.engines.diffusion.painter import Painter, Settings, settings
from facechain.engines.diffusion.prompts import fill
from facechain.engines.diffusion.samplers import FastMode
from facechain.engines.diffusion.setup import Setup, device_of, fit
from facechain.errors import EngineError
from facechain.protocols import FaceReader
from facechain.types import Canvas, Embedding, Photo, Pixels, Shot, Style

_SETUP = tuple(field.name for field in fields(Setup))
_NETS = {kind: f"controlnet_{kind}" for kind in KINDS}  # where a ControlNet lies, by what it follows
OWN_OPTIONS = ("identity_scale", "fast", "lora", "vae", "control_scales", *_NETS.values(), *_SETUP)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What is kept of a person."""

    weights: Path  # see export.py
    subject: str  # trigger and class word
    age: str  # child, teen, adult, senior, or empty
    face: Embedding | None = None  # of all photos, for shots that ask for likeness


@dataclass(frozen=True, kw_only=True)
class _State:
    """What is in the base while a shot is painted."""

    base: BaseRef
    identity_scale: float
    fast: str
    loras: tuple[LoraRef, ...]
    nets: tuple[tuple[str, Path], ...]


class Shelf(Protocol):
    """What a sitting takes from the engine."""

    fast: Mapping[str, FastMode]
    coach: Callable[[], FaceReader] | None

    def open_base(self, base: BaseRef) -> Any: ...
    def file(self, pack: str, name: str) -> Path: ...
    def controlnet(self, kind: str, family: str, named: str) -> Path: ...


class Sitting:
    def __init__(self, shelf: Shelf, base: BaseRef, family: str, learned: Learned | None, style: Style) -> None:
        self._shelf, self._base, self._family = shelf, base, family
        self._learned, self._style = learned, style
        self._inside = ExitStack()
        self._state: _State | None = None
        self._painter: Painter | None = None
        self._controls: dict[tuple[str, str, float], Control] = {}

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises EngineError for options that name what is not here; loads nothing."""
        self._added(self._wanted(options))

    def __call__(self, shot: Shot, onto: Canvas | None = None) -> Pixels:
        (made,) = self.many([shot], onto)
        return made

    def many(self, shots: Sequence[Shot], onto: Canvas | None = None, batch: int | None = None) -> Iterator[Pixels]:
        """Several shots, as they get ready: batched as memory allows, each as it would be alone."""
        for state, group in _runs(shots, lambda shot: self._wanted(shot.options)):
            painter = self._with(state)
            worded = [self._worded(shot) for shot in group]
            fitting = worded if onto is not None else [native(shot, painter.pipe) for shot in worded]
            size = batch or painter.batch_that_fits(fitting[0].width_px, fitting[0].height_px)
            for start in range(0, len(fitting), size):
                part = [(shot, self._how(shot)) for shot in fitting[start : start + size]]
                yield from painter.paint_many(part, size, onto)

    @property
    def _person(self) -> Learned:
        assert self._learned is not None, "only options can be checked before the person is learned"
        return self._learned

    def end(self) -> None:
        self._painter, self._state = None, None
        self._inside.close()

    def _wanted(self, options: Mapping[str, Any]) -> _State:
        try:
            scale = float(options.get("identity_scale", 1.0))
        except (TypeError, ValueError):
            scale = math.nan
        if not math.isfinite(scale):
            raise EngineError(f"identity_scale is {options['identity_scale']!r}.", "Give a number, usually 0 to 1.")
        chosen = {name: options[name] for name in _SETUP if name in options}
        setup = build(Setup, {**vars(self._base.setup), **chosen}, "--set") if chosen else self._base.setup
        vae = _there(str(options["vae"])) if options.get("vae") else self._base.vae
        nets = (
            (kind, self._shelf.controlnet(kind, self._family, str(options.get(_NETS[kind], ""))))
            for kind in options.get("controls", ())
            if kind in _NETS
        )
        return _State(
            base=replace(self._base, setup=setup, vae=vae),
            identity_scale=scale,
            fast=str(options.get("fast", "")),
            loras=named_loras(options.get("lora")),
            nets=tuple(sorted(nets)),
        )

    def _with(self, state: _State) -> Painter:
        if self._painter is not None and self._state == state:
            return self._painter
        self.end()
        base, setup = state.base, state.base.setup
        # Layer by layer offloading hides the weights, so there they go into a base of its own before it starts.
        layerwise = setup.offload in ("group", "sequential") and device_of(setup) != "cpu"
        pipe = assemble(base) if layerwise else self._shelf.open_base(base)
        person = LoraRef(path=self._person.weights, scale=state.identity_scale)
        self._inside.enter_context(put_in(pipe, [*self._added(state), person]))
        if layerwise:
            fit(pipe, setup)
            self._inside.pop_all()  # that base goes with the sitting: nothing to take out
        self._painter = Painter(pipe, setup=setup, nets=dict(state.nets), lead=self._lead)
        self._state = state
        return self._painter

    def _lead(self) -> Lead:
        return lead_to(self._person.face, self._shelf.coach() if self._shelf.coach is not None else None)

    def _added(self, state: _State) -> list[LoraRef]:
        """Weights beside the person's: the style's, those the request names, and a fast mode's."""
        found = [
            LoraRef(path=self._shelf.file(lora.pack, lora.file), scale=lora.scale)
            for lora in self._style.loras
            if lora.family == self._family
        ]
        found += state.loras
        if state.fast and (named := self._fast(state.fast).lora(self._family)):
            found.append(LoraRef(path=self._shelf.file(*named.split("/", 1))))
        return found

    def _fast(self, name: str) -> FastMode:
        if name not in self._shelf.fast:
            raise EngineError(f"There is no fast mode {name!r}.", f"Known: {', '.join(self._shelf.fast) or 'none'}.")
        return self._shelf.fast[name]

    def _how(self, shot: Shot) -> Settings:
        """The engine's defaults, then the style, then a fast mode, then the shot's own options."""
        style, chosen = self._style, Settings()
        given = {"sampler": style.sampler or None, "steps": style.steps, "guidance": style.guidance}
        chosen = replace(chosen, **{name: value for name, value in given.items() if value is not None})
        if name := str(shot.options.get("fast", "")):
            mode = self._fast(name)
            chosen = replace(chosen, sampler=mode.sampler, steps=mode.steps, guidance=mode.guidance)
        known = {"sampler", "steps", "guidance", "likeness", "controls", *OWN_OPTIONS}
        # A style's options may speak to other engines; what the person asked for may not be ignored.
        options = {k: v for k, v in shot.options.items() if k in known or k not in style.options}
        if "controls" in options:
            options["controls"] = self._followed(options)
        chosen = settings(chosen, options, also=OWN_OPTIONS)
        return replace(chosen, likeness=chosen.likeness * min(1.0, max(0.0, self._wanted(shot.options).identity_scale)))

    def _followed(self, options: Mapping[str, Any]) -> tuple[Control, ...]:
        """The same picture is the same control in every shot, so that shots can be painted together."""
        scales, made = options.get("control_scales", {}), []
        for kind, picture in options["controls"].items():
            if not isinstance(picture, Photo):
                raise EngineError(f"{kind} is {picture!r}, not a picture.", "Give one with --pose.")
            scale = float(scales.get(kind, 1.0))
            key = (kind, picture.id, scale)
            made.append(self._controls.setdefault(key, Control(kind=kind, picture=picture.pixels, scale=scale)))
        return tuple(made)

    def _worded(self, shot: Shot) -> Shot:
        return replace(shot, prompt=fill(shot.prompt, self._person.subject, self._person.age, self._style.ages))


def _there(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise EngineError(f"There is no {text}.", "Give a folder or a .safetensors file.")
    return path


def _runs(shots: Sequence[Shot], key: Callable[[Shot], Any]) -> Iterator[tuple[Any, list[Shot]]]:
    group: list[Shot] = []
    for shot in shots:
        if group and key(group[0]) != key(shot):
            yield key(group[0]), group
            group = []
        group.append(shot)
    if group:
        yield key(group[0]), group
