"""A small network that reads from latents what SFace reads from pictures, so that likeness can be learned cheaply.

SFace through the decoder would say the same at thirty times the cost. It teaches and is thrown away.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facechain.lab.shards import Shard
from facechain.lab.train.loop import Log, held_out, set_rate

_NOISE = 0.5  # most that is added to the latents it learns from, of their own deviation


class Recall(nn.Module):
    """Latents (N, 4, S, S) → unit vectors (N, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (4, 64, 96, 160, 256)
        layers: list[nn.Module] = []
        for k, (into, out) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Conv2d(into, out, 3, 2 if k else 1, 1), nn.GroupNorm(8, out), nn.SiLU(), _Block(out)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(width))

    def forward(self, latents: Tensor) -> Tensor:
        return functional.normalize(self.layers(latents).float(), dim=1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1), nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x + self.inside(x))


def train_recall(latents: Tensor, shard: Shard, steps: int, batch: int, seed: int, device: str, log: Log) -> Any:
    """Learns from people that are trained on; says how like its vectors are to SFace's for those held out."""
    torch.manual_seed(seed + 3)
    faces = torch.from_numpy(shard.embedding)
    faces = functional.normalize(faces, dim=1)
    seen = shard.embedding.any(1)
    rows, others = np.flatnonzero(seen & ~held_out(shard.person)), np.flatnonzero(seen & held_out(shard.person))
    net = Recall(faces.shape[1]).to(device)
    net(latents[:2].to(device))  # so that the last layer knows its size
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    for step in range(steps):
        rng = np.random.default_rng([seed, 3, step])
        chosen = rng.choice(rows, batch)
        given = latents[chosen].to(device)
        level = _NOISE * torch.from_numpy(rng.random((batch, 1, 1, 1), np.float32)).to(device)
        noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(seed * 1_000_003 + step)).to(device)
        set_rate(adam, 1e-3, step, steps, fall=0.6)
        adam.zero_grad(set_to_none=True)
        loss = (1 - (net(given + level * noise) * faces[chosen].to(device)).sum(1)).mean()
        loss.backward()
        adam.step()
        if step % 200 == 199 or step == steps - 1:
            with torch.no_grad():
                told = torch.cat([net(latents[others[i : i + 64]].to(device)).cpu() for i in range(0, len(others), 64)])
            alike = float((told * faces[others]).sum(1).mean()) if len(others) else float("nan")
            log(f"recall step {step + 1} loss {float(loss.detach()):.3f}, likeness on people held out {alike:.3f}")
    return net.eval().requires_grad_(False)
