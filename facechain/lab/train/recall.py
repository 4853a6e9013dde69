"""A small network that reads from latents who is in a picture, so that likeness can be learned cheaply.

SFace through the decoder would say the same at thirty times the cost. It teaches and is thrown away.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facechain.lab.shards import Shard
from facechain.lab.train.loop import Log, held_out, set_rate

_NOISE = 0.7  # most that is added to the latents it learns from, of their own deviation
_BATCH = 64
_SHARP = 16.0  # of the choice among all people trained on


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


def new_recall(latents: Tensor, true_faces: Tensor, device: str) -> Recall:
    net = Recall(true_faces.shape[1]).to(device)
    net(latents[:2].to(device))  # so that the last layer knows its size
    return net


def train_recall(
    latents: Tensor, true_faces: Tensor, shard: Shard, steps: int, seed: int, device: str, log: Log
) -> Recall:
    """Learns to point at the one of all people trained on; says how often it finds those held out among themselves.

    `true_faces` (N, D) are unit vectors of who is in each picture, the same for all pictures of a person.
    """
    torch.manual_seed(seed + 3)
    held = held_out(shard.person)
    rows, others = np.flatnonzero(~held), np.flatnonzero(held)
    known, which = _people(true_faces, shard, rows)
    net = new_recall(latents, true_faces, device)
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)
    for step in range(steps):
        rng = np.random.default_rng([seed, 3, step])
        chosen = rng.choice(len(rows), _BATCH)
        given = _nudged(latents[rows[chosen]], rng).to(device)
        level = _NOISE * torch.from_numpy(rng.random((_BATCH, 1, 1, 1), np.float32)).to(device)
        noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(seed * 1_000_003 + step)).to(device)
        set_rate(adam, 1e-3, step, steps, fall=0.6)
        adam.zero_grad(set_to_none=True)
        told = net(given + level * noise)
        loss = functional.cross_entropy(_SHARP * told @ known.to(device).T, which[chosen].to(device))
        loss.backward()
        adam.step()
        if step % 200 == 199 or step == steps - 1:
            found = _found(net, latents, true_faces, shard, others, device)
            log(f"recall step {step + 1} loss {float(loss.detach()):.3f}, {found}")
    return net.eval().requires_grad_(False)


def _people(true_faces: Tensor, shard: Shard, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """(P, D) one vector a person, and (N,) whose each row is."""
    _, first, which = np.unique(shard.person[rows], return_index=True, return_inverse=True)
    return true_faces[rows[first]], torch.from_numpy(which)


def _nudged(latents: Tensor, rng: np.random.Generator) -> Tensor:
    """Each moved by up to one latent to any side: with few people the net otherwise learns places by heart."""
    side = latents.shape[-1]
    around = functional.pad(latents, (1, 1, 1, 1), mode="replicate")
    y, x = rng.integers(0, 3, (2, len(latents)))
    return torch.stack([one[:, y[i] : y[i] + side, x[i] : x[i] + side] for i, one in enumerate(around)])


@torch.no_grad()
def _found(net: Recall, latents: Tensor, true_faces: Tensor, shard: Shard, rows: np.ndarray, device: str) -> str:
    if not len(rows):
        return "nobody held out"
    known, which = _people(true_faces, shard, rows)
    told = torch.cat([net(latents[rows[i : i + 64]].to(device)).cpu() for i in range(0, len(rows), 64)])
    alike = told @ known.T
    own = alike[torch.arange(len(rows)), which]
    right = float((alike.argmax(1) == which).float().mean())
    return f"held out: {right:.0%} found among {len(known)}, likeness {float(own.mean()):.3f}"
