"""Several processes that train one model: each takes its own lessons, all learn from the mean (`torchrun`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed


class Team:
    """This process among those that train together; alone when `torchrun` did not start it."""

    def __init__(self, device: str = "cpu") -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes files and tells."""
        return self.rank == 0

    def lesson(self, step: int) -> int:
        """Number of this process's own lesson of a step."""
        return step * self.size + self.rank

    @torch.no_grad()
    def mean_gradients(self, model: Any) -> None:
        """What one process has no gradient for counts as 0."""
        if self.size == 1:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        distributed.all_reduce(flat)
        for p, mean in zip(parameters, flat.div_(self.size).split([p.numel() for p in parameters]), strict=True):
            p.grad.copy_(mean.view_as(p))  # type: ignore[union-attr]  # into its own layout, which fused Adam relies on

    def any(self, mine: bool) -> bool:
        """Whether it is so for any of them; all have to ask at the same time."""
        if self.size == 1:
            return mine
        flag = torch.tensor(float(mine), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def first_alone(self, make: Callable[[], None]) -> None:
        """The leader does it; the others wait until it is done."""
        if self.leads:
            make()
        if self.size > 1:
            distributed.barrier()

    def close(self) -> None:
        """All have arrived; a process that left before the others would end them."""
        if self.size > 1:
            distributed.barrier()
            distributed.destroy_process_group()
