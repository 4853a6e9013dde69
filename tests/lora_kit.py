"""Trainings small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from facechain.engines.diffusion.base import BaseRef
from facechain.engines.lora.export import DIFFUSERS
from facechain.engines.lora.job import Example, Job, write_job
from facechain.engines.lora.settings import TrainSettings

SMALL = {
    "resolution_px": 64,
    "steps": 4,
    "rank": 4,
    "alpha": 3.0,
    "learning_rate": 1e-2,
    "text_learning_rate": 1e-2,
    "checkpoint_every": 2,
    "validate_every": 2,
    "validation_steps": 1,
    "validation_pictures": 1,
}


def examples(count: int = 3) -> list[Example]:
    """Smooth random pictures with a head in the middle."""
    rng = np.random.default_rng(1)
    yy, xx = np.mgrid[-1:1:80j, -1:1:80j]
    head = np.clip(1.5 - 3 * np.hypot(yy, xx), 0, 1).astype(np.float32)
    made = []
    for i in range(count):
        low = rng.uniform(0, 255, (4, 4, 3))
        pixels = np.kron(low, np.ones((20, 20, 1))) * head[:, :, None] + 128 * (1 - head[:, :, None])
        caption = f"portrait photo of img person, {('smile', 'red hat', 'blue coat')[i % 3]}"
        made.append(Example(pixels=pixels.astype(np.uint8), head=head, caption=caption))
    return made


def job(folder: Path, base: Path, count: int = 3, **more) -> Job:
    settings = TrainSettings(**{**SMALL, **more})
    made = Job(folder=folder, base=BaseRef(path=base), settings=settings, subject="img person", class_words="person")
    write_job(made, examples(count))
    return made


def weights(made: Job) -> dict:
    from safetensors.torch import load_file

    return load_file(made.result / DIFFUSERS)


def notes(made: Job) -> dict:
    return json.loads((made.result / "result.json").read_text())


def brightness(pictures) -> list[float | None]:
    """Stands in for a recogniser: cheap, and different for every checkpoint."""
    return [float(pixels.mean()) / 255 for pixels in pictures]
