"""Optimisers by name, and the learning rate of each step as a function of nothing but the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from facechain.engines.lora.settings import TrainSettings
from facechain.errors import EngineError


def _adamw(groups: list[dict[str, Any]], settings: TrainSettings) -> Any:
    import torch

    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def _adamw8bit(groups: list[dict[str, Any]], settings: TrainSettings) -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError:
        raise EngineError("8-bit AdamW needs bitsandbytes.", "pip install bitsandbytes, or use adamw.") from None
    return AdamW8bit(groups, weight_decay=settings.weight_decay)


def _prodigy(groups: list[dict[str, Any]], settings: TrainSettings) -> Any:
    """Finds its own step size, so all learning rates become 1 (Mishchenko and Defazio 2023)."""
    try:
        from prodigyopt import Prodigy  # type: ignore[import-not-found]
    except ImportError:
        raise EngineError("Prodigy needs prodigyopt.", "pip install prodigyopt, or use adamw.") from None
    return Prodigy(
        [{**group, "lr": 1.0} for group in groups],
        weight_decay=settings.weight_decay,  # type: ignore[arg-type]  # annotated int there, used as float
        decouple=True,
        safeguard_warmup=True,
    )


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], TrainSettings], Any]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "prodigy": _prodigy,
}


def rate(step: int, settings: TrainSettings) -> float:
    """Factor on the learning rate: rises over the warm-up, then stays or falls along a cosine."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if not settings.cosine:
        return 1.0
    share = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * share))
