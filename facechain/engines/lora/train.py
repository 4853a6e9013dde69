"""A person is learned: read `train` from top to bottom.

Nothing here depends on what happened before but the weights and the optimiser's moments: batches, noise and learning
rate are functions of the step. So a run taken up again ends in the same bits as one never stopped, and several
processes share the batches of a step without seeing other ones.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from facechain.engines.diffusion.base import assemble
from facechain.engines.diffusion.setup import device_of
from facechain.engines.lora import checkpoints, memory, parked, text
from facechain.engines.lora.adapters import Adapters
from facechain.engines.lora.examples import Examples, prepare
from facechain.engines.lora.finish import finish
from facechain.engines.lora.job import Example, Job, read_examples, write_whole
from facechain.engines.lora.learner import Learner
from facechain.engines.lora.likeness import Curve, Score
from facechain.engines.lora.settings import TrainSettings
from facechain.engines.lora.validate import paint, shot, thin_candidates, validate
from facechain.errors import EngineError
from facechain.protocols import Tick, silent

log = logging.getLogger(__name__)

SMALL_BASE = 50_000_000  # weights in the UNet; the starter has 15, SD 1.5 860 million

Say = Callable[[str], None]


def train(
    job: Job, score: Score | None = None, tick: Tick = silent, say: Say = lambda line: None, aside: bool = True
) -> Path:
    """Learns, or goes on learning; returns the folder of the result.

    `score` tells how like the person pictures are; without it the last step is the result. `aside`: whether it
    compares with photos that are not learned from. Raises what `tick` raises, leaving whole checkpoints.
    """
    if job.done:
        return job.result
    settings = job.settings
    accelerator, pipe = _open(job)
    examples = _examples(job, pipe, accelerator, tick)
    adapters = Adapters(pipe, settings)
    planned = fit(pipe, adapters, examples, accelerator, settings)
    _tell_memory(job, accelerator, planned, say)
    learner = Learner(pipe, adapters, examples, accelerator, settings)
    start, losses, curve = _take_up(job, learner, Curve(set_aside=aside))

    stopped = start >= settings.steps
    for step in range(start, settings.steps):
        tick("learning", step, settings.steps)
        losses.append(learner.step(step))
        done, last = step + 1, step + 1 == settings.steps
        if score and settings.validate_every and (done % settings.validate_every == 0 or last):
            curve = validate(job, learner, done, score, curve)
            stopped = curve.flat(settings.patience)
        if done % settings.checkpoint_every == 0 or last or stopped:
            _save(job, learner, done, losses, curve)
        if stopped:
            say(f"Likeness no longer rises: stopped at step {done} of {settings.steps}.")
            break
    tick("learning", settings.steps, settings.steps)
    measured = finish(job, learner, losses, curve, score, planned.total)
    _tell_memory(job, accelerator, planned, say, measured)
    return job.result


def fit(pipe: Any, adapters: Adapters, examples: Examples, accelerator: Any, settings: TrainSettings) -> memory.Plan:
    """What is trained goes to the device and works there; what is done with leaves. Says what memory it will take."""
    import torch

    pipe.unet.to(accelerator.device, memory_format=torch.channels_last)
    for value in adapters.named().values():
        value.data = value.data.contiguous()  # files hold them so, and peft's DoRA takes them for that
    if settings.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
    parked.park(pipe, settings)
    parked.forget_inputs(pipe.unet)
    if settings.gradient_checkpointing and not settings.dora:  # which measures the weights themselves
        parked.narrow(pipe.unet)  # for memory, at a tenth of the speed
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if adapters.ema is not None:
        adapters.ema.to(accelerator.device)
    pipe.unet.train()
    largest = max((tuple(row["mean"].shape[1:]) for row in examples.rows), key=lambda s: s[0] * s[1])
    return memory.plan(pipe, adapters, settings, largest, half=accelerator.mixed_precision != "no")


def _tell_memory(job: Job, accelerator: Any, planned: memory.Plan, say: Say, measured: int | None = None) -> None:
    """The plan before, what it came to after; kept beside the training."""
    if measured is None:
        for line in planned.lines():
            say(line)
    else:
        say(f"Memory: planned {planned.total / 2**30:.2f} GiB, at most {measured / 2**30:.2f} GiB in use.")
    if accelerator.is_main_process:
        told = {"planned_bytes": planned.total, "planned": asdict(planned), "peak_bytes": measured}
        write_whole(job.folder / "memory.json", json.dumps(told, indent=1).encode())


def _open(job: Job) -> tuple[Any, Any]:
    """The processes, and the base in the precision they work in."""
    from accelerate import Accelerator

    setup = replace(job.base.setup, precision=_precision(job), offload="none", attention="sdpa", compile=False)
    mixed = "no" if setup.precision == "fp32" else setup.precision
    accelerator = Accelerator(mixed_precision=mixed, cpu=device_of(setup) == "cpu")
    if job.settings.accumulate % accelerator.num_processes:
        raise EngineError(
            f"{job.settings.accumulate} batches a step cannot be shared by {accelerator.num_processes} processes.",
            "Set accumulate to a multiple of the processes.",
        )
    pipe = assemble(replace(job.base, setup=setup))
    if device_of(setup) == "cpu":
        _spare_threads(pipe)
    return accelerator, pipe


def _spare_threads(pipe: Any) -> None:
    """Layers of a small base are too short to share: beside other work two threads waited for each other so long that a
    step took ten times as long as with one."""
    import torch

    if sum(value.numel() for value in pipe.unet.parameters()) < SMALL_BASE:
        torch.set_num_threads(1)


def _precision(job: Job) -> str:
    import torch

    asked, device = job.settings.precision, device_of(job.base.setup)
    if asked == "fp16" and device == "cpu":
        log.warning("fp16 is not for the CPU: learning in fp32.")
        return "fp32"
    if asked != "auto":
        return asked
    if device != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _examples(job: Job, pipe: Any, accelerator: Any, tick: Tick) -> Examples:
    """One process makes the cache, the others wait and read it."""
    import torch

    tick("preparing", 0, 1)
    with accelerator.main_process_first():
        prior = _prior(job, pipe, accelerator, tick)
        pipe.vae.to(accelerator.device, torch.float32)  # once a picture: SDXL's overflows in fp16, and bf16 is coarse
        for _, _, encoder in text.encoders(pipe):
            encoder.to(accelerator.device)
        examples = prepare(pipe, read_examples(job.folder), prior, job.settings, job.folder / "cache.safetensors")
    tick("preparing", 1, 1)
    return examples


def _prior(job: Job, pipe: Any, accelerator: Any, tick: Tick) -> list[Example]:
    """Pictures of anybody as the untouched base paints them, kept so that they are painted once."""
    words, made = f"photo of a {job.class_words}", []
    if job.settings.prior_pictures:
        pipe.to(accelerator.device)
    for index in range(job.settings.prior_pictures):
        path = job.folder / "prior" / f"{index:03d}.npy"
        if not path.is_file():
            tick("painting anybody", index, job.settings.prior_pictures)
            (pixels,) = paint(pipe, [shot(index, 10_000 + index, words, job)], job)
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(f".{path.name}.part.npy")
            np.save(part, pixels)
            part.replace(path)
        pixels = np.load(path, allow_pickle=False)
        made.append(Example(pixels=pixels, head=np.ones(pixels.shape[:2], np.float32), caption=words))
    return made


def _take_up(job: Job, learner: Learner, curve: Curve) -> tuple[int, list[float], Curve]:
    """Where the last whole checkpoint left off."""
    folder = job.folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    if not (found := checkpoints.listed(folder)):
        return 0, [], curve
    tensors, moments, notes = checkpoints.load(found[-1])
    adapters, scaler = learner.adapters, learner.accelerator.scaler
    adapters.load(tensors)
    learner.optimizer.load_state_dict(moments["optimizer"])
    if adapters.ema is not None:
        adapters.ema.load_state_dict(moments["ema"])
    if scaler is not None and moments.get("scaler"):
        scaler.load_state_dict(moments["scaler"])
    return notes["step"], notes["losses"], Curve.from_json(notes["curve"])


def _save(job: Job, learner: Learner, step: int, losses: list[float], curve: Curve) -> None:
    learner.accelerator.wait_for_everyone()
    if not learner.accelerator.is_main_process:
        return
    adapters, scaler = learner.adapters, learner.accelerator.scaler
    moments = {
        "optimizer": learner.optimizer.state_dict(),
        "ema": adapters.ema.state_dict() if adapters.ema is not None else {},
        "scaler": scaler.state_dict() if scaler is not None else {},
    }
    notes = {"losses": losses, "curve": curve.to_json()}
    folder = job.folder / "checkpoints"
    checkpoints.save(folder, step, adapters.state(), moments, notes)
    checkpoints.thin(folder, job.settings.keep_checkpoints)
    thin_candidates(job, curve)
