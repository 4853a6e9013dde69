"""The error of one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from facechain.engines.lora.examples import Batch
from facechain.engines.lora.settings import TrainSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What the UNet is asked: `noisy` at `times`, to answer `target`."""

    noisy: Any  # (B, 4, h, w)
    times: Any  # (B,)
    target: Any  # (B, 4, h, w)


def task(batch: Batch, number: int, schedule: Any, settings: TrainSettings) -> Task:
    """All chance comes from (seed, batch number), drawn on the CPU: the same batch is the same task on any machine."""
    import torch

    chance = torch.Generator("cpu").manual_seed((settings.seed * 1_000_003 + number) % 2**63)
    device, shape = batch.mean.device, batch.mean.shape
    latents = batch.mean + batch.std * torch.randn(shape, generator=chance).to(device)
    noise = torch.randn(shape, generator=chance)
    if settings.noise_offset:
        noise += settings.noise_offset * torch.randn((*shape[:2], 1, 1), generator=chance)
    noise = noise.to(device)
    times = torch.randint(schedule.config.num_train_timesteps, (shape[0],), generator=chance).to(device)
    noisy = schedule.add_noise(latents, noise, times)
    by_speed = schedule.config.prediction_type == "v_prediction"
    target = schedule.get_velocity(latents, noise, times) if by_speed else noise
    return Task(noisy=noisy, times=times, target=target)


def error(
    answer: Any, of: Task, batch: Batch, schedule: Any, settings: TrainSettings, base: Callable[[], Any] | None
) -> Any:
    """Mean squared error, heavier on the head; pictures of anybody count everywhere alike.

    `base` answers as the untouched base would: with `preserve` the background is held to that answer.
    """
    square = (answer.float() - of.target.float()) ** 2
    inside = settings.face_weight * batch.weight + settings.background_weight * (1 - batch.weight)
    of_anybody = batch.prior[:, None, None, None]
    weight = (1 - of_anybody) * inside + of_anybody
    each = (weight * square).mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))
    if settings.preserve and base is not None:
        outside = (1 - batch.weight) * (1 - of_anybody)
        each = each + settings.preserve * (outside * (answer.float() - base().float()) ** 2).mean(dim=(1, 2, 3))
    importance = (1 - batch.prior) + settings.prior_weight * batch.prior
    return (each * importance * level_weights(of.times, schedule, settings)).mean()


def level_weights(times: Any, schedule: Any, settings: TrainSettings) -> Any:
    """Min-SNR: nearly clean pictures, whose error is cheap to lower, do not drown the rest."""
    import torch
    from diffusers.training_utils import compute_snr

    if not settings.snr_gamma:
        return torch.ones(len(times), device=times.device)
    ratio = compute_snr(schedule, times)
    capped = ratio.clamp(max=settings.snr_gamma)
    by_speed = schedule.config.prediction_type == "v_prediction"
    return capped / (ratio + 1) if by_speed else capped / ratio
