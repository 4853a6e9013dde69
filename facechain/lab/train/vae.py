"""First stage: the autoencoder. Seeded by step, so a run that goes on sees the pictures it would have seen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facechain.lab import family
from facechain.lab.render import LABELS
from facechain.lab.train.loop import Rate, Run, Stop, Worker, grid, held_out, pictures, psnr, put_down, take_up
from facechain.lab.train.sface import Sface, unlike
from facechain.lab.train.team import Team

WHOLE = 0.45  # share of the steps after which it sees whole pictures
SETTLED = 0.5  # and after which its inward half, and so every latent, stays as it is: the UNet may begin
UNLIKE = 0.5  # weight of what SFace sees differently
_RATE = Rate(1e-3, fall=0.2)
_COUNTS = {"face skin": 3, "lips": 6, "eyes": 6, "brows": 6, "mouth": 4}
# How much a pixel of each part counts: people are told apart by little of a picture.
WEIGHTS = np.array([_COUNTS.get(part, 1) for part in LABELS], np.float32)


def train_vae(run: Run, sface: Sface, stop: Stop) -> Any:
    """Leaves vae.pt in the run's folder; its scaling factor makes latents of unit variance.

    Whole pictures are also compared as `sface` sees them: a few pixels of an eye weigh little, and tell who it is.
    """
    folder, shard, preset, team, device = run.folder, run.shard, run.preset, run.team, run.device
    torch.manual_seed(run.seed)
    vae = family.new_vae(preset).to(device, memory_format=torch.channels_last)
    adam = torch.optim.AdamW(vae.parameters(), lr=_RATE.top, betas=(0.9, 0.99), weight_decay=0, fused=True)
    step = take_up(folder / "vae.pt", vae, adam)
    worker = Worker(vae, copy.deepcopy(vae), team)
    rows = np.flatnonzero(~held_out(shard.person))
    late, losses = stop.clock(), []
    while step < stop.steps and not team.any(late()):
        lesson = team.lesson(step)
        rng = np.random.default_rng([run.seed, 1, lesson])
        # Cheap squares first; at last whole pictures, whose means the norms must know, else colours drift.
        whole = step >= WHOLE * stop.steps
        batch = np.sort(rng.choice(rows, preset.vae_batch // 2 if whole else preset.vae_batch))
        side = preset.size_px if whole else preset.vae_crop_px
        y, x = 8 * rng.integers(0, (preset.size_px - side) // 8 + 1, 2)
        cut = (batch, slice(y, y + side), slice(x, x + side))
        wanted = pictures(shard.pixels[cut], device)
        weight = torch.from_numpy(WEIGHTS[shard.labels[cut]])[:, None].to(device)
        points = torch.from_numpy(shard.points[batch]).to(device)
        if rng.random() < 0.5:
            wanted, weight, points = wanted.flip(-1), weight.flip(-1), _mirrored(points)
        _RATE.set(adam, step, stop.steps)
        with torch.set_grad_enabled(step < SETTLED * stop.steps):
            posterior = worker.copy.encode(wanted.bfloat16()).latent_dist
        noise = torch.randn(
            posterior.mean.shape, generator=torch.Generator().manual_seed(run.seed * 1_000_003 + lesson)
        )
        seen = worker.copy.decode(posterior.mean + posterior.std * noise.to(posterior.std)).sample.float()
        loss = (weight * (seen - wanted).abs()).mean() + _edges(seen, wanted)
        loss = loss + 1e-6 * posterior.kl().float().mean()
        if whole:
            loss = loss + UNLIKE * unlike(sface, seen, wanted, points)
        loss.backward()
        worker.hand_over()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        adam.step()
        worker.follow()
        losses.append(float(loss.detach()))
        step += 1
        if step % 50 == 0:
            run.log(f"vae step {step} loss {np.mean(losses[-50:]):.4f}")
        if step % stop.save_every == 0 and team.leads:
            put_down(folder / "vae.pt", vae, adam, step)
    with torch.no_grad():
        some = pictures(shard.pixels[rows[:: max(1, len(rows) // 64)]], device)
        found = float(1 / vae.encode(some).latent_dist.mean.std())
        vae.register_to_config(scaling_factor=_settled(folder / "scale.txt", found, team, step >= SETTLED * stop.steps))
        shown = pictures(shard.pixels[np.flatnonzero(held_out(shard.person))[:8]], device)
        again = vae.decode(vae.encode(shown).latent_dist.mean).sample
        run.log(f"vae step {step} held-out PSNR {psnr(shown, again):.2f} dB, scale {vae.config.scaling_factor:.3f}")
    if team.leads:
        grid(torch.cat([shown, again]), 8).save(folder / "vae.png")
    team.first_alone(lambda: put_down(folder / "vae.pt", vae, adam, step))
    return vae


def _settled(file: Path, found: float, team: Team, settled: bool) -> float:
    """The scale that was first `found` of latents that stay: other stages learn by it, also when shards are added."""

    def settle() -> None:
        if settled and not file.is_file():
            file.write_text(repr(found), "utf-8")

    team.first_alone(settle)
    return float(file.read_text("utf-8")) if file.is_file() else found


def _mirrored(points: Tensor) -> Tensor:
    """(N, 5, 2) in picture widths, left and right exchanged."""
    return points[:, [1, 0, 2, 4, 3]] * torch.tensor([-1.0, 1.0], device=points.device) + torch.tensor(
        [1.0, 0.0], device=points.device
    )


def _edges(seen: Tensor, wanted: Tensor) -> Tensor:
    """Differences of neighbouring pixels, at two sizes: without it L1 alone leaves faces soft."""
    total = seen.new_zeros(())
    for size in (1, 2):
        a, b = (functional.avg_pool2d(x, size) if size > 1 else x for x in (seen, wanted))
        for axis in (-1, -2):
            total = total + (a.diff(dim=axis) - b.diff(dim=axis)).abs().mean()
    return total
