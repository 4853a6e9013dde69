"""One person before one base in one style: adapters go in at the first shot, and anew when a shot asks otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from facechain.engines.diffusion.base import BaseRef, assemble, family_of
from facechain.engines.diffusion.canvas import canvas_for
from facechain.engines.diffusion.lead import Lead
from facechain.engines.diffusion.loras import LoraRef, named_loras, put_in
from facechain.engines.diffusion.model_cache import ModelCache, exclusive
from facechain.engines.diffusion.native import native
from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.samplers import FastMode
from facechain.engines.diffusion.sampling import Conditioning, Item, batch_that_fits, check_size, sample_all
from facechain.engines.diffusion.setup import device_of, fit
from facechain.engines.diffusion.words import Encoder
from facechain.engines.inpaint.face import FaceInpainter
from facechain.engines.inpaint.repaint import Repaint
from facechain.errors import EngineError
from facechain.protocols import EngineCard, Identity, Landmarker, Paint, Parser
from facechain.types import Canvas, Pixels, Shot, Style

# A shot with its parameters and canvas → what the engine contributes; an engine's adapter for one person.
Condition: TypeAlias = Callable[[Shot, Any, Repaint | None], Conditioning]


def _no_pack(pack: str, file: str) -> Path:
    raise EngineError(f"The pack {pack} cannot be opened here.", "Give the engine packs.")


def _no_controlnet(kind: str, family: str, named: str) -> Path:
    raise EngineError(f"There is no ControlNet for {kind} here.", "Leave it out.")


def _not_here() -> Any:
    raise EngineError("This engine cannot paint into pictures here.", "Leave the template out.")


@dataclass(frozen=True, kw_only=True)
class DiffusionContext:
    """What every engine on a base is handed; nothing is opened before it is used."""

    base: Callable[[], BaseRef]
    models: ModelCache = field(default_factory=ModelCache)
    pack: Callable[[str, str], Path] = _no_pack  # a file of a pack
    controlnet: Callable[[str, str, str], Path] = _no_controlnet  # by type, family, and what the request names
    fast: Mapping[str, FastMode] = field(default_factory=dict)
    landmarker: Callable[[], Landmarker] = _not_here
    parser: Callable[[], Parser] = _not_here


class DiffusionEngine:
    """Base class of engines on a Stable Diffusion base. Subclasses write `learn`, `adapter` and `face_guidance`."""

    card: EngineCard
    params: type[SamplingParams]
    context: DiffusionContext
    batches: ClassVar[bool] = False  # whether shots can share a call: True where the person is in the weights alone

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        """On leaving, also by an exception, the base is what it was, bit for bit."""
        self.check_style(style)
        session = Session(self, identity, style)
        try:
            yield session
        finally:
            session.close()

    def adapter(self, pipe: Any, identity: Identity, style: Style) -> AbstractContextManager[Condition]:
        """Puts the person into the pipeline until the block ends, and yields what conditions a shot on them."""
        raise NotImplementedError

    def prompt(self, shot: Shot, identity: Identity, style: Style) -> str:
        """The shot's prompt in this engine's words for the person."""
        return shot.prompt

    def loras(self, identity: Identity, params: SamplingParams) -> list[LoraRef]:
        """LoRAs that carry the person."""
        return []

    def face_guidance(self, identity: Identity) -> Lead:
        """Towards whom a shot's `face_guidance_scale` leads. Raises EngineError where no face vector is known."""
        raise NotImplementedError

    def requested_loras(self, style: Style, params: SamplingParams) -> list[LoraRef]:
        """The style's, those the request names, and a fast mode's. Raises for files and packs that are not there."""
        family = family_of(self.context.base().path) if style.loras or params.fast else ""
        found = [
            LoraRef(path=self.context.pack(lora.pack, lora.file), scale=lora.scale)
            for lora in style.loras
            if lora.family == family
        ]
        found += named_loras(params.lora)
        if params.fast and (named := self.fast_mode(params.fast).lora(family)):
            found.append(LoraRef(path=self.context.pack(*named.split("/", 1))))
        return found

    def check(self, style: Style, options: Mapping[str, Any]) -> None:
        """Raises EngineError or PackError for what could not be painted here, before anything is opened or learned:
        unknown or impossible options, a style for other bases, weights that are absent."""
        self.check_style(style)
        params = self.resolve(style, options)
        self.requested_loras(style, params)
        if params.controls:
            family = family_of(self.context.base().path)
            for kind in params.controls:
                self.context.controlnet(kind, family, str(getattr(params, f"controlnet_{kind}", "")))

    def check_style(self, style: Style) -> None:
        """Raises EngineError when a style was made for other families of bases."""
        if style.bases and (family := family_of(self.context.base().path)) not in style.bases:
            raise EngineError(
                f"The style {style.title} is made for {', '.join(style.bases)}.",
                f"{self.context.base().title} is {family}.",
            )

    def fast_mode(self, name: str) -> FastMode:
        known = self.context.fast
        if name not in known:
            raise EngineError(f"There is no fast mode {name!r}.", f"Known: {', '.join(known) or 'none'}.")
        return known[name]

    def resolve(self, style: Style, options: Mapping[str, Any]) -> Any:
        """Parameters of a shot: the engine's defaults, then the style's, a fast mode's, the options.

        `options` may repeat the style's, which may speak to other engines; all others must be known.
        """
        known = self.params.names()
        look, asked = self.params.current_names(style.options), self.params.current_names(options)
        asked = {name: value for name, value in asked.items() if name in known or name not in look}
        given: dict[str, Any] = {"steps": style.steps, "guidance": style.guidance, "sampler": style.sampler or None}
        if fast := asked.get("fast") or look.get("fast"):
            mode = self.fast_mode(str(fast))
            given = {"steps": mode.steps, "guidance": mode.guidance, "sampler": mode.sampler}
        given = {name: value for name, value in given.items() if value is not None}
        given |= {name: value for name, value in look.items() if name in known}
        return self.params.parse({**given, **asked}, self.card.title, self.card.unsupported)


@dataclass(frozen=True, kw_only=True)
class _State:
    """What is in the base while a shot is painted."""

    base: BaseRef
    loras: tuple[LoraRef, ...]


class Session:
    def __init__(self, engine: DiffusionEngine, identity: Identity, style: Style) -> None:
        self._engine, self._identity, self._style = engine, identity, style
        self._context = engine.context
        self._inside = ExitStack()
        self._state: _State | None = None
        self._pipe: Any = None
        self._condition: Condition | None = None
        self._encoder: Encoder | None = None

    def __call__(self, shot: Shot, onto: Canvas | None = None) -> Pixels:
        if onto is None or isinstance(onto, Repaint):
            (made,) = self.many([shot], onto)
            return made
        return self._into_picture(shot, onto)

    def many(self, shots: Sequence[Shot], onto: Repaint | None = None, batch: int | None = None) -> Iterator[Pixels]:
        """Several shots in order, as they get ready: batched as memory allows, each as it would be alone."""
        for state, group in groupby(((shot, self._resolved(shot)) for shot in shots), self._state_of):
            self._enter(state)
            size = (batch or 0) if self._engine.batches and onto is None else 1
            for first in group:  # none is looked at before its turn: a plan may hold thousands
                size = size or batch_that_fits(self._pipe, first[0].width_px, first[0].height_px)
                items = list(self._items([first, *islice(group, size - 1)], onto))  # noqa: B031
                yield from sample_all(items, self._face_guidance)

    def close(self) -> None:
        self._state = self._pipe = self._condition = self._encoder = None
        self._inside.close()

    # ── one paragraph each ───────────────────────────────────────────────────────────────────────

    def _items(self, group: Sequence[tuple[Shot, Any]], onto: Repaint | None) -> Iterator[Item]:
        assert self._condition is not None
        assert self._encoder is not None
        for shot, params in group:
            shot = native(shot, self._pipe) if onto is None else shot
            check_size(shot)
            canvas = canvas_for(params, shot, onto, self._controlnet)
            shot = replace(shot, prompt=self._engine.prompt(shot, self._identity, self._style))
            one = self._condition(shot, params, canvas)
            if "prompt_embeds" not in one.inputs:
                words = self._encoder.encode(shot.prompt, shot.negative).arguments()
                one = replace(one, inputs={**words, **one.inputs})
            yield Item(shot=shot, params=params, conditioning=one, canvas=canvas)

    def _into_picture(self, shot: Shot, onto: Canvas) -> Pixels:
        inpainter = FaceInpainter(self._context.landmarker(), self._context.parser())
        params = self._resolved(shot)
        return inpainter.paint(self, shot, params, onto, self._context.base().path)

    def _resolved(self, shot: Shot) -> Any:
        params = self._engine.resolve(self._style, shot.options)
        scale = getattr(params, "identity_scale", 1.0)
        # The less of the person there is in the picture, the less face guidance leads to them.
        guidance = params.face_guidance_scale * min(1.0, max(0.0, scale))
        return params.model_copy(update={"face_guidance_scale": guidance})

    def _state_of(self, item: tuple[Shot, Any]) -> _State:
        params: SamplingParams = item[1]
        base = self._context.base()
        vae = _existing(params.vae) if params.vae else base.vae
        return _State(
            base=replace(base, setup=params.setup, vae=vae),
            loras=(*self._engine.requested_loras(self._style, params), *self._engine.loras(self._identity, params)),
        )

    def _enter(self, state: _State) -> None:
        if self._state == state:
            return
        self.close()
        # Layer-by-layer offloading hides the weights, so there they go into a base of the session's own before it.
        layerwise = state.base.setup.offload in ("group", "sequential") and device_of(state.base.setup) != "cpu"
        pipe = assemble(state.base) if layerwise else self._context.models.pipeline(state.base)
        self._inside.enter_context(nullcontext() if layerwise else exclusive(pipe))
        try:
            self._inside.enter_context(put_in(pipe, state.loras))
            self._condition = self._inside.enter_context(self._engine.adapter(pipe, self._identity, self._style))
            if layerwise:
                fit(pipe, state.base.setup)
                self._inside.pop_all()
        except BaseException:
            self.close()
            raise
        self._pipe, self._state, self._encoder = pipe, state, Encoder(pipe)

    def _face_guidance(self) -> Lead:
        return self._engine.face_guidance(self._identity)

    def _controlnet(self, kind: str, named: str) -> Any:
        path = self._context.controlnet(kind, family_of(self._context.base().path), named)
        return self._context.models.controlnet(path, self._pipe)


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise EngineError(f"There is no {text}.", "Give a folder or a .safetensors file.")
    return path
