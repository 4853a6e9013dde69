"""A training as a folder, so that another process can do it and a stopped one can be taken up again.

job.json            settings and base
examples/           NNN.npz pixels and head mask, NNN.txt caption: edit the captions before training if you like
cache.safetensors   latents, masks and text embeddings
checkpoints/        step-000100/ …
validation/         pictures of each validation
curve.json .png     likeness by step
memory.json         planned and measured
result/             lora_diffusers.safetensors, lora_webui_comfyui.safetensors, result.json; there only when done
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facechain.config import build
from facechain.engines.diffusion.base import BaseRef
from facechain.engines.diffusion.setup import Setup
from facechain.engines.lora.settings import TrainSettings
from facechain.errors import EngineError
from facechain.types import Mask, Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    pixels: Pixels
    head: Mask
    caption: str


@dataclass(frozen=True, kw_only=True)
class Job:
    folder: Path
    base: BaseRef
    settings: TrainSettings
    subject: str  # trigger and class word, e.g. "ohwx person"
    class_words: str  # e.g. "person"

    @property
    def result(self) -> Path:
        return self.folder / "result"

    @property
    def done(self) -> bool:
        return (self.result / "result.json").is_file()


def write_job(job: Job, examples: Sequence[Example]) -> None:
    """job.json comes last, so a folder without it is none. Examples that are there stay: captions may be edited."""
    if not (job.folder / "job.json").is_file():
        shutil.rmtree(job.folder / "examples", ignore_errors=True)
        for folder in (job.folder.parent, job.folder):  # not the person's own, which may have been deleted meanwhile
            folder.mkdir(exist_ok=True)
        (job.folder / "examples").mkdir()
        for number, example in enumerate(examples):
            stem = job.folder / "examples" / f"{number:03d}"
            np.savez_compressed(stem.with_suffix(".npz"), pixels=example.pixels, head=example.head)
            stem.with_suffix(".txt").write_text(example.caption, "utf-8")
    base = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(job.base).items()}
    values = {
        "base": base,
        "settings": job.settings.model_dump(),
        "subject": job.subject,
        "class_words": job.class_words,
    }
    write_whole(job.folder / "job.json", json.dumps(values, indent=1).encode())


def read_job(folder: Path) -> Job:
    try:
        values: dict[str, Any] = json.loads((folder / "job.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{folder} is no training: {error}.", "Start it again.") from None
    paths = {key: value and Path(value) for key, value in values["base"].items() if key not in ("name", "setup")}
    base = BaseRef(**paths, name=values["base"]["name"], setup=build(Setup, values["base"]["setup"], "setup"))
    settings = TrainSettings.parse(values["settings"], "A training")
    words = {name: values[name] for name in ("subject", "class_words")}
    return Job(folder=folder, base=base, settings=settings, **words)


def read_examples(folder: Path) -> list[Example]:
    made = []
    for path in sorted((folder / "examples").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            caption = path.with_suffix(".txt").read_text("utf-8").strip()
            made.append(Example(pixels=arrays["pixels"], head=arrays["head"], caption=caption))
    return made


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or none of it, whenever the power goes. The folder above the file's own must be there."""
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
