"""What the three stages of training share: when to stop, checkpoints, rates, pictures in and out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from facechain.lab.family import Preset
from facechain.lab.shards import Shard
from facechain.lab.train.team import Team

_HELD_OUT = 20  # every twentieth person is never trained on
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What is the same for all stages of one training."""

    folder: Path  # of checkpoints, sample grids and the tokenizer
    shard: Shard
    preset: Preset
    seed: int
    device: str
    log: Log
    team: Team


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A stage ends at `steps`, or is put down after `minutes` to be taken up again."""

    steps: int
    minutes: float
    save_every: int = 500

    def clock(self) -> Callable[[], bool]:
        end = time.monotonic() + 60 * self.minutes
        return lambda: time.monotonic() > end


def held_out(person: np.ndarray) -> np.ndarray:
    """True for people nobody trains on."""
    return person % _HELD_OUT == 0


@dataclass(frozen=True)
class Rate:
    """A short rise, then level, then down over the last share `fall` of the steps."""

    top: float
    fall: float

    def set(self, adam: torch.optim.Optimizer, step: int, steps: int) -> None:
        rate = self.top * min(1, (step + 1) / 100) * min(1, max(0.02, (steps - step) / max(1, steps * self.fall)))
        for group in adam.param_groups:
            group["lr"] = rate


def put_down(path: Path, model: Any, adam: Any, step: int, smooth: Any = None) -> None:
    state = {"model": model.state_dict(), "adam": adam.state_dict(), "step": step}
    if smooth is not None:
        state["smooth"] = smooth.state_dict()
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def take_up(path: Path, model: Any, adam: Any, smooth: Any = None) -> int:
    """The step to go on from; 0 for a new run."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    adam.load_state_dict(state["adam"])
    if smooth is not None:
        smooth.load_state_dict(state["smooth"])
    return int(state["step"])


class Worker:
    """A bfloat16 copy of a model that does the arithmetic; the model itself keeps and learns full precision.

    With a team, the model learns from the mean of what the copies of all its processes found.

    On a processor with bfloat16 products a step of the small UNet took 0.89 s
    instead of 1.27 s. (Mixed precision: Micikevicius et al. 2018.)
    """

    def __init__(self, model: Any, copy: Any, team: Team) -> None:
        self._model, self.copy, self.team = model, copy.to(torch.bfloat16), team
        self.follow()

    @torch.no_grad()
    def follow(self) -> None:
        """Buffers too: those of a run taken up again are its own, not what the shards of today would give."""
        for mine, its in zip(_tensors(self.copy), _tensors(self._model), strict=True):
            mine.copy_(its)

    @torch.no_grad()
    def hand_over(self) -> None:
        """The gradients to the model, which forgets its own."""
        for mine, its in zip(self.copy.parameters(), self._model.parameters(), strict=True):
            its.grad = None if mine.grad is None else mine.grad.float()
            mine.grad = None
        self.team.mean_gradients(self._model)


def _tensors(model: Any) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def begin(
    model: Any, smooth: Any, file: Path, top_rate: float, team: Team
) -> tuple[Worker, torch.optim.Optimizer, int]:
    """What does the arithmetic, what changes the weights, and the step to go on from."""
    worker = Worker(model, copy.deepcopy(model), team)
    adam = torch.optim.AdamW(model.parameters(), lr=top_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    step = take_up(file, model, adam, smooth)
    worker.follow()
    return worker, adam, step


@torch.no_grad()
def follow(smooth: torch.nn.Module, now: torch.nn.Module, keep: float) -> None:
    """Moving average of the weights; early on it follows closely."""
    for average, value in zip(smooth.parameters(), now.parameters(), strict=True):
        average.lerp_(value, 1 - keep)


def learn(
    name: str,
    file: Path,
    model: Any,
    worker: Worker,
    smooth: Any,
    adam: torch.optim.Optimizer,
    step: int,
    stop: Stop,
    rate: Rate,
    keep: float,
    log: Log,
    lesson: Callable[[int], tuple[Tensor, Tensor]],
    saved: Callable[[int], None] = lambda step: None,
) -> None:
    """From `step` to the stage's end: `lesson` gives, by number, the loss to tell and what is to become less.

    `smooth` follows the model, keeping the share `keep` of itself each step. Leaves checkpoints in `file`.
    """
    late, losses, team = stop.clock(), [], worker.team
    while step < stop.steps and not team.any(late()):
        told, loss = lesson(team.lesson(step))
        loss.backward()
        worker.hand_over()
        rate.set(adam, step, stop.steps)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        worker.follow()
        follow(smooth, model, min(keep, (1 + step) / (10 + step)))
        losses.append((float(told.detach()), float(loss.detach())))
        step += 1
        if step % 50 == 0:
            log("{} step {} loss {:.4f}, with all else {:.4f}".format(name, step, *np.mean(losses[-50:], 0)))
        if step % stop.save_every == 0 and team.leads:
            put_down(file, model, adam, step, smooth)
            saved(step)
    team.first_alone(lambda: put_down(file, model, adam, step, smooth))


def pictures(pixels: np.ndarray, device: str) -> Tensor:
    """(N, S, S, 3) uint8 → (N, 3, S, S) in -1…1."""
    moved = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return moved.contiguous(memory_format=torch.channels_last)


def grid(shown: Tensor, columns: int) -> Image.Image:
    values = ((shown.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(list(values[i : i + columns]), 1) for i in range(0, len(values), columns)]
    return Image.fromarray(np.concatenate(rows, 0))


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(4 / functional.mse_loss(a, b)))
