"""The LoRA engine behind the engine protocol."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.base import BaseRef, channels_of, family_of
from facechain.engines.diffusion.lead import Lead, lead_to
from facechain.engines.diffusion.loras import LoraRef
from facechain.engines.diffusion.prompts import fill, noun
from facechain.engines.diffusion.sampling import Conditioning
from facechain.engines.diffusion.session import Condition, DiffusionContext, DiffusionEngine
from facechain.engines.lora.card import CARD, LoraParams
from facechain.engines.lora.child import train_in_child
from facechain.engines.lora.examples import continued
from facechain.engines.lora.export import weights_in
from facechain.engines.lora.job import Example, Job, read_job, write_job
from facechain.engines.lora.likeness import scorer, set_aside
from facechain.engines.lora.settings import TrainSettings
from facechain.engines.lora.train import train
from facechain.errors import EngineError, PersonError
from facechain.protocols import FaceReader, Identity, Tick, silent
from facechain.types import Crop, Embedding, Person, Pixels, Shot, Style

log = logging.getLogger(__name__)

TRIGGER = "ohwx"  # means nothing to the base, so that it can come to mean the person
OWN = ("hair", "glasses")  # ends of phrases about what belongs to a person where it stays the same
LATENTS = 4  # channels a UNet of an ordinary base takes
RESOLUTION_PX = {"sd15": 512, "sdxl": 1024}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What is kept of a person."""

    weights: Path  # lora.safetensors
    subject: str  # trigger and class word
    age: str  # child, teen, adult, senior, or empty
    face: Embedding | None = None  # of all photos, for face guidance


@dataclass(kw_only=True)
class LoraEngine(DiffusionEngine):
    """`folder` tells where a person's training lies."""

    context: DiffusionContext
    folder: Callable[[str], Path]
    coach: Callable[[], FaceReader] | None = None  # chooses among checkpoints; never the judge
    settings: TrainSettings | None = None  # None: the usual ones
    usual: Mapping[str, Any] = field(default_factory=dict)  # what the base wants otherwise than `TrainSettings` says
    isolated: bool = True  # train in a process of its own
    processes: int = 1  # that share a training
    prepare_only: bool = False  # write down what would be learned, for captions to be edited, and stop there

    card = CARD
    params = LoraParams
    batches = True

    def __post_init__(self) -> None:
        if self.coach is not None:
            self.card = replace(CARD, filtered_by=(self.coach().recogniser,))

    @property
    def base(self) -> Callable[[], BaseRef]:
        return self.context.base

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
        own = own_phrases(crops)
        examples = [
            Example(pixels=_seen(crop), head=crop.head_mask, caption=caption(crop, subject, own)) for crop in crops
        ]
        material = _material(examples, base)
        job = self._settled(person.name, material) or self._job(person.name, material, base, subject, noun(age))
        if not job.done:
            write_job(job, examples)
            if not self.prepare_only:
                self._train(job, aside or crops, bool(aside), tick)
        learned = Learned(weights=weights_in(job.result), subject=subject, age=age, face=person.template)
        return Identity(person=person.name, engine=CARD.name, digest=job.folder.name, data=learned, folder=job.folder)

    def _settled(self, person: str, material: str) -> Job | None:
        """The newest finished training on the same photos and base, when nothing else is asked for."""
        if self.settings or self.base().vae or self.prepare_only:
            return None
        done = [result.parents[1] for result in self.folder(person).glob(f"{material}-*/result/result.json")]
        newest = max(done, key=lambda folder: (folder / "result" / "result.json").stat().st_mtime_ns, default=None)
        return read_job(newest) if newest else None

    def _job(self, person: str, material: str, base: BaseRef, subject: str, class_words: str) -> Job:
        """Equal photos, base, VAE and settings are one training, and its folder."""
        usual = {"resolution_px": RESOLUTION_PX[family_of(base.path)], **self.usual}
        settings = self.settings or TrainSettings.parse(usual, "The base")
        vae = [fingerprint(replace(base, path=base.vae, vae=None))] if base.vae else []
        folder = self.folder(person) / f"{material}-{_digest([settings.model_dump(), *vae])}"
        return Job(folder=folder, base=base, settings=settings, subject=subject, class_words=class_words)

    def _train(self, job: Job, references: Sequence[Crop], aside: bool, tick: Tick) -> None:
        self.context.models.clear()  # room for the training
        score = scorer(self.coach(), references) if self.coach is not None else None
        if self.isolated:
            train_in_child(job, score, tick, log.info, aside=aside, processes=self.processes)
        else:
            train(job, score, tick, log.info, aside=aside)

    # ── painting ─────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def adapter(self, pipe: Any, identity: Identity, style: Style) -> Iterator[Condition]:
        """The person is in the LoRA: nothing more goes in."""
        conditioning = Conditioning(pipe=pipe)
        yield lambda shot, params, canvas: conditioning

    def loras(self, identity: Identity, params: LoraParams) -> list[LoraRef]:
        return [LoraRef(path=identity.data.weights, scale=params.identity_scale)]

    def prompt(self, shot: Shot, identity: Identity, style: Style) -> str:
        return fill(shot.prompt, identity.data.subject, identity.data.age, style.ages)

    def face_guidance(self, identity: Identity) -> Lead:
        return lead_to(identity.data.face, self.coach() if self.coach is not None else None)


def caption(crop: Crop, subject: str, own: Collection[str] = ()) -> str:
    """The crop's own caption, about the subject and without the phrases `own`.

    What is said of a picture is not learned as the person; what is the person's own must not be said.
    """
    _, *said = crop.caption.split(", ")
    return ", ".join([f"portrait photo of {subject}", *(phrase for phrase in said if phrase not in own)])


def own_phrases(crops: Sequence[Crop]) -> set[str]:
    """What is said of the hair or glasses in at least two of three photos: so the person looks, usually."""
    said = Counter(phrase for crop in crops for phrase in set(crop.caption.split(", ")) if phrase.endswith(OWN))
    return {phrase for phrase, count in said.items() if 3 * count >= 2 * len(crops)}


def _age(crops: Sequence[Crop]) -> str:
    """What most crops that can tell say."""
    found = Counter(tag.value for crop in crops for tag in crop.tags if tag.name == "age" and tag.value != "unknown")
    return found.most_common(1)[0][0] if found else ""


def _seen(crop: Crop) -> Pixels:
    return crop.pixels if crop.photo_px is None else continued(crop.pixels, crop.photo_px)


def _material(examples: Sequence[Example], base: BaseRef) -> str:
    """Names the photos, their captions and the base."""
    pictures = (hashlib.sha256(e.pixels.tobytes() + e.head.tobytes() + e.caption.encode()) for e in examples)
    return _digest([fingerprint(replace(base, vae=None)), *sorted(picture.hexdigest() for picture in pictures)])


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
