"""A person is learned: read `train` from top to bottom.

Nothing here depends on what happened before but the weights and the optimiser's moments: batches, noise and learning
rate are functions of the step. So a run taken up again ends in the same bits as one never stopped, and several
processes share the batches of a step without seeing other ones.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.base import assemble
from facechain.engines.diffusion.painter import Painter, Settings
from facechain.engines.diffusion.setup import Setup, device_of
from facechain.engines.lora import checkpoints, memory, text
from facechain.engines.lora.adapters import Adapters
from facechain.engines.lora.examples import Batch, Examples, prepare
from facechain.engines.lora.export import write_kohya, write_peft
from facechain.engines.lora.job import Example, Job, read_examples, write_whole
from facechain.engines.lora.likeness import Curve, Point, Score, draw
from facechain.engines.lora.loss import Task, error, task
from facechain.engines.lora.optimizers import OPTIMIZERS, rate
from facechain.engines.lora.settings import TrainSettings
from facechain.errors import EngineError
from facechain.protocols import Tick, silent
from facechain.types import Pixels, Shot

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
    optimizer = OPTIMIZERS[settings.optimizer](adapters.groups(settings), settings)
    rates = [group["lr"] for group in optimizer.param_groups]
    start, losses, curve = _take_up(job, adapters, optimizer, accelerator, Curve(set_aside=aside))
    planned = _fit(pipe, adapters, examples, accelerator, settings, say)

    run = _Run(pipe, adapters, optimizer, rates, accelerator, examples, settings)
    stopped = start >= settings.steps
    for step in range(start, settings.steps):
        tick("learning", step, settings.steps)
        losses.append(run.step(step))
        done, last = step + 1, step + 1 == settings.steps
        if score and settings.validate_every and (done % settings.validate_every == 0 or last):
            curve = _validate(job, run, done, score, curve)
            stopped = curve.flat(settings.patience)
        if done % settings.checkpoint_every == 0 or last or stopped:
            _save(job, run, done, losses, curve)
        if stopped:
            say(f"Likeness no longer rises: stopped at step {done} of {settings.steps}.")
            break
    tick("learning", settings.steps, settings.steps)
    _finish(job, run, losses, curve, score, planned, say)
    return job.result


class _Run:
    """What one step needs, spread over the processes."""

    def __init__(
        self,
        pipe: Any,
        adapters: Adapters,
        optimizer: Any,
        rates: list[float],
        accelerator: Any,
        examples: Examples,
        settings: TrainSettings,
    ) -> None:
        from diffusers import DDPMScheduler  # type: ignore[attr-defined]

        self.pipe, self.adapters, self.accelerator = pipe, adapters, accelerator
        self.examples, self.settings = examples, settings
        self.schedule = DDPMScheduler.from_config(pipe.scheduler.config)
        self.rates = rates
        self.unet, self.optimizer = accelerator.prepare(pipe.unet, optimizer)
        self.trained_text = [accelerator.prepare(m) for part, m in adapters.models.items() if part != "unet"]

    def step(self, step: int) -> float:
        """One change of the weights; returns the mean error over all processes."""
        import torch

        settings, accelerator = self.settings, self.accelerator
        for group, full in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = full * rate(step, settings)
        mine = range(accelerator.process_index, settings.accumulate, accelerator.num_processes)
        total = torch.zeros((), device=accelerator.device)
        for at, place in enumerate(mine):
            alone = at + 1 < len(mine) and accelerator.num_processes > 1
            with accelerator.no_sync(self.unet) if alone else contextlib.nullcontext():
                found = self.error(step * settings.accumulate + place) / len(mine)
                accelerator.backward(found)
                total += found.detach()
        accelerator.clip_grad_norm_(list(self.adapters.named().values()), settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.adapters.ema is not None:
            self.adapters.ema.step(list(self.adapters.named().values()))
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total, "mean")
        return float(total)

    def error(self, number: int) -> Any:
        """Of batch `number`, ready for the backward pass."""
        batch = _on(self.examples.batch(number), self.accelerator.device)
        asked = task(batch, number, self.schedule, self.settings)
        with self.accelerator.autocast():
            words = self._words(batch)
            answer = self._answer(asked, words)
            return error(answer, asked, batch, self.schedule, self.settings, lambda: self._as_base(asked, words))

    def _words(self, batch: Batch) -> dict[str, Any]:
        found = {"text": batch.text, "pooled": batch.pooled}
        if batch.text is None:
            found = {"pooled": None, **text.embeddings(self.pipe, batch.ids, grad=True)}
        words: dict[str, Any] = {"encoder_hidden_states": found["text"]}
        if found["pooled"] is not None:
            words["added_cond_kwargs"] = {"text_embeds": found["pooled"], "time_ids": batch.size}
        return words

    def _answer(self, asked: Task, words: dict[str, Any]) -> Any:
        dtype = self.pipe.unet.dtype
        words = {**words, "encoder_hidden_states": words["encoder_hidden_states"].to(dtype)}
        return self.unet(asked.noisy.to(dtype), asked.times, **words, return_dict=False)[0]

    def _as_base(self, asked: Task, words: dict[str, Any]) -> Any:
        import torch

        with torch.no_grad(), self.adapters.off():
            return self._answer(asked, words)


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
    return accelerator, assemble(replace(job.base, setup=setup))


def _precision(job: Job) -> str:
    import torch

    if job.settings.precision != "auto":
        return job.settings.precision
    if device_of(job.base.setup) != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _examples(job: Job, pipe: Any, accelerator: Any, tick: Tick) -> Examples:
    """One process makes the cache, the others wait and read it."""
    tick("preparing", 0, 1)
    pipe.vae.to(accelerator.device)
    for _, _, encoder in text.encoders(pipe):
        encoder.to(accelerator.device)
    with accelerator.main_process_first():
        prior = _prior(job, pipe, accelerator, tick)
        examples = prepare(pipe, read_examples(job.folder), prior, job.settings, job.folder / "cache.safetensors")
    tick("preparing", 1, 1)
    return examples


def _prior(job: Job, pipe: Any, accelerator: Any, tick: Tick) -> list[Example]:
    """Pictures of anybody as the untouched base paints them, kept so that they are painted once."""
    import numpy as np

    words, made = f"photo of a {job.class_words}", []
    pipe.unet.to(accelerator.device)
    for index in range(job.settings.prior_pictures):
        path = job.folder / "prior" / f"{index:03d}.npy"
        if not path.is_file():
            tick("painting anybody", index, job.settings.prior_pictures)
            (pixels,) = _paint(pipe, [_shot(index, 10_000 + index, words, job)], job)
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(f".{path.name}.part.npy")
            np.save(part, pixels)
            part.replace(path)
        pixels = np.load(path, allow_pickle=False)
        made.append(Example(pixels=pixels, head=np.ones(pixels.shape[:2], np.float32), caption=words))
    return made


def _take_up(
    job: Job, adapters: Adapters, optimizer: Any, accelerator: Any, curve: Curve
) -> tuple[int, list[float], Curve]:
    """Where the last whole checkpoint left off."""
    folder = job.folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := checkpoints.listed(folder)):
        return 0, [], curve
    tensors, moments, notes = checkpoints.load(found[-1])
    adapters.load(tensors)
    optimizer.load_state_dict(moments["optimizer"])
    if adapters.ema is not None:
        adapters.ema.load_state_dict(moments["ema"])
    if accelerator.scaler is not None and moments.get("scaler"):
        accelerator.scaler.load_state_dict(moments["scaler"])
    return notes["step"], notes["losses"], Curve.from_json(notes["curve"])


def _fit(
    pipe: Any, adapters: Adapters, examples: Examples, accelerator: Any, settings: TrainSettings, say: Say
) -> memory.Plan:
    """What is trained goes to the device and works there; what is done with leaves. Says what memory it will take."""
    import torch

    pipe.unet.to(accelerator.device, memory_format=torch.channels_last)
    if settings.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
    if not settings.train_text:
        for _, _, encoder in text.encoders(pipe):
            encoder.to("cpu")
    pipe.vae.to("cpu")
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if adapters.ema is not None:
        adapters.ema.to(accelerator.device)
    pipe.unet.train()
    largest = max((tuple(row["mean"].shape[1:]) for row in examples.rows), key=lambda s: s[0] * s[1])
    planned = memory.plan(pipe, adapters, settings, largest, half=accelerator.mixed_precision != "no")
    for line in planned.lines():
        say(line)
    return planned


def _validate(job: Job, run: _Run, step: int, score: Score, curve: Curve) -> Curve:
    """One process paints and scores; all hear the result."""
    from accelerate.utils import broadcast_object_list

    points: list[Any] = [None]
    if run.accelerator.is_main_process:
        with run.adapters.averaged():
            pictures = _pictures(job, run)
            _keep_candidate(job, run.adapters, step)
        points = [Point(step=step, each=tuple(score(pictures)))]
        _write_pictures(job, step, pictures)
    if run.accelerator.num_processes > 1:
        broadcast_object_list(points)
    curve = curve.with_point(points[0])
    if run.accelerator.is_main_process:
        _thin_candidates(job, curve)
        write_whole(job.folder / "curve.json", curve.to_json().encode())
    return curve


def _pictures(job: Job, run: _Run) -> list[Pixels]:
    """The same seeds and words every time."""
    pipe, device = run.pipe, run.accelerator.device
    for part in (pipe.vae, *(encoder for _, _, encoder in text.encoders(pipe))):
        part.to(device)
    run.pipe.unet.eval()
    words = f"portrait photo of {job.subject}, looking at the camera, plain background"
    shots = [_shot(i, 1000 + i, words, job) for i in range(job.settings.validation_pictures)]
    try:
        with run.accelerator.autocast():
            return _paint(pipe, shots, job)
    finally:
        run.pipe.unet.train()
        pipe.vae.to("cpu")
        if not job.settings.train_text:
            for _, _, encoder in text.encoders(pipe):
                encoder.to("cpu")


def _shot(index: int, seed: int, words: str, job: Job) -> Shot:
    size = job.settings.resolution_px
    return Shot(index=index, seed=seed, prompt=words, negative="", width_px=size, height_px=size, options={})


def _paint(pipe: Any, shots: list[Shot], job: Job) -> list[Pixels]:
    schedule = pipe.scheduler
    pipe.set_progress_bar_config(disable=True)
    try:
        how = Settings(steps=job.settings.validation_steps, guidance=7.0)
        return Painter(pipe, setup=Setup()).paint_many([(shot, how) for shot in shots])
    finally:
        pipe.scheduler = schedule


def _keep_candidate(job: Job, adapters: Adapters, step: int) -> None:
    from safetensors.torch import save

    write_whole(job.folder / "validation" / f"step-{step:06d}" / "adapters.safetensors", save(adapters.state()))


def _candidate(job: Job, step: int) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(job.folder / "validation" / f"step-{step:06d}" / "adapters.safetensors")


def _thin_candidates(job: Job, curve: Curve) -> None:
    """Pictures of every validation stay, weights only of those that may still win."""
    best = {point.step for point in curve.best(job.settings.average_best)}
    for point in curve.points:
        if point.step not in best:
            weights = job.folder / "validation" / f"step-{point.step:06d}" / "adapters.safetensors"
            weights.unlink(missing_ok=True)


def _write_pictures(job: Job, step: int, pictures: list[Pixels]) -> None:
    from PIL import Image

    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(job.folder / "validation" / f"step-{step:06d}" / f"{i}.png")


def _save(job: Job, run: _Run, step: int, losses: list[float], curve: Curve) -> None:
    run.accelerator.wait_for_everyone()
    if not run.accelerator.is_main_process:
        return
    scaler = run.accelerator.scaler
    moments = {
        "optimizer": run.optimizer.state_dict(),
        "ema": run.adapters.ema.state_dict() if run.adapters.ema is not None else {},
        "scaler": scaler.state_dict() if scaler is not None else {},
    }
    notes = {"losses": losses, "curve": curve.to_json()}
    folder = job.folder / "checkpoints"
    checkpoints.save(folder, step, run.adapters.state(), moments, notes)
    checkpoints.thin(folder, job.settings.keep_checkpoints)


def _finish(
    job: Job, run: _Run, losses: list[float], curve: Curve, score: Score | None, planned: memory.Plan, say: Say
) -> None:
    """The best checkpoint, or the mean of the best few where that is no worse, in every format; all at once."""
    if not run.accelerator.is_main_process:
        run.accelerator.wait_for_everyone()
        return
    measured = memory.peak(run.accelerator.device)
    if run.adapters.ema is not None:
        run.adapters.ema.copy_to(list(run.adapters.named().values()))
    step, of = _choose(job, run, curve, score) if curve.points else (len(losses), [])
    notes = {
        "title": job.subject,
        "subject": job.subject,
        "class_words": job.class_words,
        "base": job.base.title,
        "step": step,
        "steps_averaged": of,
        "photos": len(read_examples(job.folder)),
        "likeness": {p.step: p.likeness for p in curve.points}.get(step),
        "memory": {"planned_bytes": planned.total, "peak_bytes": measured},
        **{name: getattr(job.settings, name) for name in ("seed", "resolution_px", "learning_rate", "optimizer")},
        "losses": losses,
    }
    say(f"Memory: planned {planned.total / 2**30:.2f} GiB, at most {measured / 2**30:.2f} GiB in use.")
    part = job.folder / ".result.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    told = {name: value for name, value in notes.items() if name != "losses"}
    write_peft(run.adapters, part / "lora.safetensors", told)
    write_kohya(run.pipe, run.adapters, part / "lora_kohya.safetensors", told)
    if curve.points:
        draw(curve, step).save(job.folder / "curve.png")
    write_whole(part / "result.json", json.dumps(notes, indent=1).encode())
    shutil.rmtree(job.result, ignore_errors=True)
    part.rename(job.result)
    run.accelerator.wait_for_everyone()


def _choose(job: Job, run: _Run, curve: Curve, score: Score | None) -> tuple[int, list[int]]:
    """Loads the chosen weights; returns their step, and the steps they are the mean of, if several."""
    best = curve.best(job.settings.average_best)
    states = [_candidate(job, point.step) for point in best]
    if len(states) > 1 and score is not None:
        run.adapters.load({name: sum(s[name] for s in states) / len(states) for name in states[0]})
        mean = Point(step=best[0].step, each=tuple(score(_pictures(job, run))))
        if mean.likeness >= best[0].likeness:
            return best[0].step, [point.step for point in best]
    run.adapters.load(states[0])
    return best[0].step, []


def _on(batch: Batch, device: Any) -> Batch:
    return replace(
        batch, **{name: value.to(device) for name, value in vars(batch).items() if value is not None and name != "ids"}
    )
