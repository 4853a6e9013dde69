"""The LoRA engine behind the engine protocol."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.base import BaseRef, assemble, channels_of, family_of, load
from facechain.engines.diffusion.loras import LoraRef, put_in
from facechain.engines.diffusion.painter import Painter, Settings, settings
from facechain.engines.diffusion.prompts import fill, noun
from facechain.engines.diffusion.samplers import FastMode
from facechain.engines.diffusion.setup import device_of, fit
from facechain.engines.lora.card import CARD
from facechain.engines.lora.child import train_in_child
from facechain.engines.lora.job import Example, Job, read_job, write_job
from facechain.engines.lora.likeness import scorer, set_aside
from facechain.engines.lora.settings import TrainSettings
from facechain.engines.lora.train import train
from facechain.errors import EngineError, PersonError
from facechain.protocols import FaceReader, Identity, Paint, Tick, silent
from facechain.types import Canvas, Crop, Person, Pixels, Shot, Style

TRIGGER = "ohwx"  # means nothing to the base, so that it can come to mean the person
LATENTS = 4  # channels a UNet of an ordinary base takes
OWN_OPTIONS = ("identity_scale", "fast")
RESOLUTION_PX = {"sd15": 512, "sdxl": 1024}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What is kept of a person."""

    weights: Path  # lora.safetensors
    subject: str  # trigger and class word
    age: str  # child, teen, adult, senior, or empty


@dataclass(kw_only=True)
class LoraEngine:
    """`base` gives the base to paint with, `folder` where a person's training lies, `pack` a file of a pack."""

    base: Callable[[], BaseRef]
    folder: Callable[[str], Path]
    coach: Callable[[], FaceReader] | None = None  # chooses among checkpoints; never the judge
    settings: TrainSettings | None = None  # None: by the base's family
    pack: Callable[[str, str], Path] | None = None
    nets: Mapping[str, Path] = field(default_factory=dict)  # ControlNets by kind
    fast: Mapping[str, FastMode] = field(default_factory=dict)
    isolated: bool = True  # train in a process of its own
    processes: int = 1

    card = CARD

    def __post_init__(self) -> None:
        self._pipe: tuple[BaseRef, Any] | None = None

    # ── learning ─────────────────────────────────────────────────────────────────────────────────

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        """Trains, or takes what an equal training left. Raises PersonError for too few photos."""
        if (photos := len(person.crops) + len(person.held_out)) < CARD.min_photos:
            raise PersonError(f"{person.name} has {photos} photos.", f"Add some: {CARD.min_photos} at least.")
        if channels_of(self.base().path) != LATENTS:
            raise EngineError(
                "A person cannot be learned on an inpainting base.",
                "Learn on the base it was made from, then use both.",
            )
        crops, aside = set_aside(person.crops)
        age = _age(person.crops)
        subject = f"{TRIGGER} {noun(age)}"
        base = self.base()
        examples = [Example(pixels=crop.pixels, head=crop.head_mask, caption=caption(crop, subject)) for crop in crops]
        material = _material(examples, base)
        chosen = self.settings or self._settled(person.name, material)
        chosen = chosen or TrainSettings(resolution_px=RESOLUTION_PX[family_of(base.path)])
        digest = f"{material}-{_digest(asdict(chosen))}"
        job = Job(
            folder=self.folder(person.name) / digest,
            base=base,
            settings=chosen,
            subject=subject,
            class_words=noun(age),
        )
        if not job.done:
            write_job(job, examples)
            self._train(job, aside or crops, bool(aside), tick)
        learned = Learned(weights=job.result / "lora.safetensors", subject=subject, age=age)
        return Identity(person=person.name, engine=CARD.name, digest=digest, data=learned, folder=job.folder)

    def _settled(self, person: str, material: str) -> TrainSettings | None:
        """Those of the newest finished training on the same photos and base, when nothing else is asked for."""
        done = [result.parents[1] for result in self.folder(person).glob(f"{material}-*/result/result.json")]
        newest = max(done, key=lambda folder: (folder / "result" / "result.json").stat().st_mtime_ns, default=None)
        return read_job(newest).settings if newest else None

    def _train(self, job: Job, references: Sequence[Crop], aside: bool, tick: Tick) -> None:
        self._pipe = None  # room for the training
        score = scorer(self.coach(), references) if self.coach is not None else None
        if self.isolated:
            train_in_child(job, score, tick, aside=aside, processes=self.processes)
        else:
            train(job, score, tick, aside=aside)

    # ── painting ─────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        """Style and person are added to the base's weights; on leaving, the base is what it was, bit for bit."""
        base = self.base()
        family = family_of(base.path)
        if style.bases and family not in style.bases:
            raise EngineError(
                f"The style {style.title} is made for {', '.join(style.bases)}.", f"{base.title} is {family}."
            )
        sitting = _Sitting(self, base, family, identity.data, style)
        try:
            yield sitting
        finally:
            sitting.end()

    def open_base(self, base: BaseRef) -> Any:
        """Kept from sitting to sitting."""
        if self._pipe is None or self._pipe[0] != base:
            self._pipe = (base, load(base))
        return self._pipe[1]

    def file(self, pack: str, name: str) -> Path:
        if self.pack is None:
            raise EngineError(f"The pack {pack} cannot be opened here.", "Give the engine packs.")
        return self.pack(pack, name)


class _Sitting:
    """Paints; weights are put in at the first shot and again only when a shot asks for other ones."""

    def __init__(self, engine: LoraEngine, base: BaseRef, family: str, learned: Learned, style: Style) -> None:
        self._engine, self._base, self._family = engine, base, family
        self._learned, self._style = learned, style
        self._inside = ExitStack()
        self._state: tuple[float, str] | None = None
        self._painter: Painter | None = None

    def __call__(self, shot: Shot, onto: Canvas | None = None) -> Pixels:
        (made,) = self.many([shot], onto)
        return made

    def many(self, shots: Sequence[Shot], onto: Canvas | None = None, batch: int | None = None) -> list[Pixels]:
        """Several shots, batched as memory allows; each as it would be alone."""
        made: list[Pixels] = []
        for state, group in _runs(shots, self._wanted):
            painter = self._with(*state)
            worded = [self._worded(shot) for shot in group]
            fitting = worded if onto is not None else [native(shot, painter.pipe) for shot in worded]
            made += painter.paint_many([(shot, self._how(shot)) for shot in fitting], batch, onto)
        return made

    def end(self) -> None:
        self._painter, self._state = None, None
        self._inside.close()

    def _wanted(self, shot: Shot) -> tuple[float, str]:
        try:
            return float(shot.options.get("identity_scale", 1.0)), str(shot.options.get("fast", ""))
        except (TypeError, ValueError):
            raise EngineError(f"identity_scale is {shot.options['identity_scale']!r}.", "Give a number.") from None

    def _with(self, scale: float, fast: str) -> Painter:
        if self._painter is not None and self._state == (scale, fast):
            return self._painter
        self.end()
        engine = self._engine
        loras = [
            LoraRef(path=engine.file(lora.pack, lora.file), scale=lora.scale)
            for lora in self._style.loras
            if lora.family == self._family
        ]
        if fast and (named := self._fast(fast).lora(self._family)):
            loras.append(LoraRef(path=engine.file(*named.split("/", 1))))
        loras.append(LoraRef(path=self._learned.weights, scale=scale))
        setup = self._base.setup
        # Layer by layer offloading hides the weights, so there they go into a base of its own before it starts.
        layerwise = setup.offload in ("group", "sequential") and device_of(setup) != "cpu"
        pipe = assemble(self._base) if layerwise else engine.open_base(self._base)
        self._inside.enter_context(put_in(pipe, loras))
        if layerwise:
            fit(pipe, setup)
            self._inside.pop_all()  # that base goes with the sitting: nothing to take out
        self._painter = Painter(pipe, setup=self._base.setup, nets=engine.nets)
        self._state = (scale, fast)
        return self._painter

    def _fast(self, name: str) -> FastMode:
        if name not in self._engine.fast:
            raise EngineError(f"There is no fast mode {name!r}.", f"Known: {', '.join(self._engine.fast) or 'none'}.")
        return self._engine.fast[name]

    def _how(self, shot: Shot) -> Settings:
        """The engine's defaults, then the style, then a fast mode, then the shot's own options."""
        style, chosen = self._style, Settings()
        given = {"sampler": style.sampler or None, "steps": style.steps, "guidance": style.guidance}
        chosen = replace(chosen, **{name: value for name, value in given.items() if value is not None})
        if name := self._wanted(shot)[1]:
            mode = self._fast(name)
            chosen = replace(chosen, sampler=mode.sampler, steps=mode.steps, guidance=mode.guidance)
        known = {"sampler", "steps", "guidance", "controls", *OWN_OPTIONS}
        # A style's options may speak to other engines; what the person asked for may not be ignored.
        options = {k: v for k, v in shot.options.items() if k in known or k not in style.options}
        return settings(chosen, options, also=OWN_OPTIONS)

    def _worded(self, shot: Shot) -> Shot:
        return replace(shot, prompt=fill(shot.prompt, self._learned.subject, self._learned.age, self._style.ages))


def _runs(shots: Sequence[Shot], key: Callable[[Shot], Any]) -> Iterator[tuple[Any, list[Shot]]]:
    group: list[Shot] = []
    for shot in shots:
        if group and key(group[0]) != key(shot):
            yield key(group[0]), group
            group = []
        group.append(shot)
    if group:
        yield key(group[0]), group


def native(shot: Shot, pipe: Any) -> Shot:
    """Far below the size its base was trained at a picture breaks, so such a shot is enlarged to it, in its shape."""
    side = pipe.unet.config.sample_size * 8
    area = shot.width_px * shot.height_px
    if area >= (0.75 * side) ** 2:
        return shot
    step, scale = min(64, side // 8), side / area**0.5
    width, height = (round(length * scale / step) * step for length in (shot.width_px, shot.height_px))
    return replace(shot, width_px=width, height_px=height)


def caption(crop: Crop, subject: str) -> str:
    """The crop's own caption, about the subject: what is said of the picture is not learned as the person."""
    _, comma, rest = crop.caption.partition(", ")
    return f"portrait photo of {subject}{comma}{rest}"


def _age(crops: Sequence[Crop]) -> str:
    """What most crops that can tell say."""
    found = Counter(tag.value for crop in crops for tag in crop.tags if tag.name == "age" and tag.value != "unknown")
    return found.most_common(1)[0][0] if found else ""


def _material(examples: Sequence[Example], base: BaseRef) -> str:
    """Names the photos, their captions and the base."""
    pictures = (hashlib.sha256(e.pixels.tobytes() + e.head.tobytes() + e.caption.encode()) for e in examples)
    return _digest([fingerprint(base), *sorted(picture.hexdigest() for picture in pictures)])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint(base: BaseRef) -> str:
    """Of a base's files by name, size and their first and last 64 KiB: gigabytes need not be read to tell two apart."""
    made = hashlib.sha256()
    for path in filter(None, (base.path, base.vae)):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in (f for f in files if f.is_file()):
            size = file.stat().st_size
            made.update(f"{file.relative_to(path) if path.is_dir() else ''}\0{size}\0".encode())
            with file.open("rb") as opened:
                made.update(opened.read(65536))
                opened.seek(max(0, size - 65536))
                made.update(opened.read())
    return made.hexdigest()
