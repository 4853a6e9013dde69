"""Pictures in between: painted, scored and kept, with the weights that may still win."""

from __future__ import annotations

from typing import Any

from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.sampling import text_to_image
from facechain.engines.lora import parked
from facechain.engines.lora.adapters import Adapters
from facechain.engines.lora.job import Job, write_whole
from facechain.engines.lora.learner import Learner
from facechain.engines.lora.likeness import Curve, Point, Score, draw
from facechain.types import Pixels, Shot


def validate(job: Job, learner: Learner, step: int, score: Score, curve: Curve) -> Curve:
    """One process paints and scores; all hear the result."""
    from accelerate.utils import broadcast_object_list

    points: list[Any] = [None]
    if learner.accelerator.is_main_process:
        with learner.adapters.averaged():
            pictures = sample(job, learner)
            _keep_candidate(job, learner.adapters, step)
        points = [Point(step=step, each=tuple(score(pictures)))]
        _write_pictures(job, step, pictures)
    if learner.accelerator.num_processes > 1:
        broadcast_object_list(points)
    curve = curve.with_point(points[0])
    if learner.accelerator.is_main_process:
        keep_curve(job, curve, curve.best()[0].step)
    return curve


def sample(job: Job, learner: Learner) -> list[Pixels]:
    """The person as the weights are now: the same seeds and words every time."""
    pipe, device = learner.pipe, learner.accelerator.device
    words = f"portrait photo of {job.subject}, facing the camera, plain light background"
    shots = [shot(i, 1000 + i, words, job) for i in range(job.settings.validation_pictures)]
    pipe.unet.eval()
    try:
        with parked.at_work(pipe, device, job.settings), learner.accelerator.autocast():
            return paint(pipe, shots, job)
    finally:
        pipe.unet.train()


def shot(index: int, seed: int, words: str, job: Job) -> Shot:
    size = job.settings.resolution_px
    return Shot(index=index, seed=seed, prompt=words, negative="", width_px=size, height_px=size, options={})


def paint(pipe: Any, shots: list[Shot], job: Job) -> list[Pixels]:
    pipe.set_progress_bar_config(disable=True)
    chosen = job.settings
    params = SamplingParams(
        sampler=chosen.validation_sampler, steps=chosen.validation_steps, guidance=chosen.validation_guidance
    )
    return text_to_image(pipe, shots, params)


def keep_curve(job: Job, curve: Curve, chosen: int) -> None:
    """As data and as a picture."""
    import io

    drawn = io.BytesIO()
    draw(curve, chosen).save(drawn, "PNG")
    write_whole(job.folder / "curve.json", curve.to_json().encode())
    write_whole(job.folder / "curve.png", drawn.getvalue())


def candidate(job: Job, step: int) -> dict[str, Any]:
    """The weights a validation kept."""
    from safetensors.torch import load_file

    return load_file(_weights(job, step))


def _keep_candidate(job: Job, adapters: Adapters, step: int) -> None:
    from safetensors.torch import save

    (job.folder / "validation").mkdir(exist_ok=True)
    write_whole(_weights(job, step), save(adapters.state()))


def thin_candidates(job: Job, curve: Curve) -> None:
    """Pictures of every validation stay, weights only of those that may still win.

    By a curve that a checkpoint holds: one taken up again may choose among no others than that.
    """
    best = {point.step for point in curve.best(job.settings.average_best)}
    for point in curve.points:
        if point.step not in best:
            _weights(job, point.step).unlink(missing_ok=True)


def _weights(job: Job, step: int) -> Any:
    return job.folder / "validation" / f"step-{step:06d}" / "adapters.safetensors"


def _write_pictures(job: Job, step: int, pictures: list[Pixels]) -> None:
    from PIL import Image

    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(job.folder / "validation" / f"step-{step:06d}" / f"{i}.png")
