"""How the family learns: first the autoencoder, then words, UNet and face adapter together.

Both stages are seeded by step, so a stopped run that goes on sees the pictures it would have seen.
"""

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

from facechain.lab import family
from facechain.lab.family import Preset
from facechain.lab.shards import Shard

DROP_TEXT, DROP_FACE, DROP_BOTH = 0.08, 0.08, 0.06
NO_ADAPTER = 0.15  # share of steps without the adapter, so that the base alone is a model too
WHOLE = 0.8  # share of the autoencoder's steps after which it sees whole pictures
_HELD_OUT = 20  # every twentieth person is never trained on
Log = Callable[[str], None]


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


# ── the autoencoder ──────────────────────────────────────────────────────────────────────────────────────────────────


def train_vae(folder: Path, shard: Shard, preset: Preset, stop: Stop, seed: int, device: str, log: Log) -> Any:
    """Leaves vae.pt in `folder`; its scaling factor makes latents of unit variance."""
    torch.manual_seed(seed)
    vae = family.new_vae(preset).to(device, memory_format=torch.channels_last)
    adam = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0)
    step = _take_up(folder / "vae.pt", vae, adam)
    rows = np.flatnonzero(~held_out(shard.person))
    late, losses = stop.clock(), []
    while step < stop.steps and not late():
        rng = np.random.default_rng([seed, 1, step])
        batch = np.sort(rng.choice(rows, preset.vae_batch))
        # Cheap squares first; the last fifth is whole pictures, whose means the norms must know, else colours drift.
        side = preset.size_px if step >= WHOLE * stop.steps else preset.vae_crop_px
        y, x = 8 * rng.integers(0, (preset.size_px - side) // 8 + 1, 2)
        cut = (batch, slice(y, y + side), slice(x, x + side))
        pictures = _pictures(shard.pixels[cut], device)
        weight = 1 + 2 * torch.from_numpy(_face(shard.labels[cut]))[:, None].to(device)
        if rng.random() < 0.5:
            pictures, weight = pictures.flip(-1), weight.flip(-1)
        _set_rate(adam, 1e-3, step, stop.steps)
        with _half(device):
            posterior = vae.encode(pictures).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
            seen = vae.decode(posterior.mean + posterior.std * noise.to(device)).sample.float()
        loss = (weight * (seen - pictures).abs()).mean() + _edges(seen, pictures)
        loss = loss + 1e-6 * posterior.kl().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        adam.step()
        losses.append(float(loss.detach()))
        step += 1
        if step % 50 == 0:
            log(f"vae step {step} loss {np.mean(losses[-50:]):.4f}")
        if step % stop.save_every == 0:
            _put_down(folder / "vae.pt", vae, adam, step)
    with torch.no_grad():
        some = _pictures(shard.pixels[rows[:: max(1, len(rows) // 64)]], device)
        vae.register_to_config(scaling_factor=float(1 / vae.encode(some).latent_dist.mean.std()))
        shown = _pictures(shard.pixels[np.flatnonzero(held_out(shard.person))[:8]], device)
        again = vae.decode(vae.encode(shown).latent_dist.mean).sample
        log(f"vae step {step} held-out PSNR {_psnr(shown, again):.2f} dB, scale {vae.config.scaling_factor:.3f}")
        _grid(torch.cat([shown, again]), 8).save(folder / "vae.png")
    _put_down(folder / "vae.pt", vae, adam, step)
    return vae


def _half(device: str) -> Any:
    """bfloat16 on a GPU; CPUs mostly have no faster half."""
    return torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda"))


def _edges(seen: Tensor, wanted: Tensor) -> Tensor:
    """Differences of neighbouring pixels, at two sizes: without it L1 alone leaves faces soft."""
    total = seen.new_zeros(())
    for size in (1, 2):
        a, b = (functional.avg_pool2d(x, size) if size > 1 else x for x in (seen, wanted))
        for axis in (-1, -2):
            total = total + (a.diff(dim=axis) - b.diff(dim=axis)).abs().mean()
    return total


def _face(labels: np.ndarray) -> np.ndarray:
    return np.isin(labels, (1, 3, 4, 5, 8)).astype(np.float32)


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def train_unet(
    folder: Path, shard: Shard, vae: Any, preset: Preset, stop: Stop, seed: int, device: str, log: Log
) -> tuple[Any, Any]:
    """UNet with its adapter, and text model, as averaged over training. Leaves unet.pt and sample grids."""
    torch.manual_seed(seed + 1)
    tokenizer = family.read_tokenizer(folder / "tokenizer")
    both = torch.nn.ModuleDict({"unet": family.new_unet(preset), "text": family.new_text(preset, tokenizer)}).to(device)
    both["unet"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    smooth = copy.deepcopy(both).requires_grad_(False)
    adam = torch.optim.AdamW(both.parameters(), lr=4e-4, betas=(0.9, 0.99), weight_decay=0.01)
    step = _take_up(folder / "unet.pt", both, adam, smooth)
    alphas = family.new_scheduler().alphas_cumprod.to(device)
    latents = _latents(vae, shard, device)
    ids = tokenizer(list(shard.caption), padding="max_length", truncation=True, return_tensors="pt").input_ids
    empty = tokenizer([""], padding="max_length", return_tensors="pt").input_ids[0]
    faces = torch.from_numpy(shard.embedding)
    usable = ~held_out(shard.person) & shard.embedding.any(1)
    views = _views(shard.person, usable)
    rows = np.flatnonzero(usable)
    late, losses = stop.clock(), []
    while step < stop.steps and not late():
        rng = np.random.default_rng([seed, 2, step])
        batch = rng.choice(rows, preset.unet_batch)
        # The face comes from another picture of the same person, so pose and light cannot be copied.
        other = np.array([rng.choice(views[int(shard.person[i])]) for i in batch])
        words, face = ids[batch].clone(), faces[other].clone()
        chance = rng.random(preset.unet_batch)
        words[torch.from_numpy(chance < DROP_TEXT + DROP_BOTH)] = empty
        face[torch.from_numpy((chance >= DROP_TEXT) & (chance < DROP_TEXT + DROP_BOTH + DROP_FACE))] = 0
        clean = latents[batch].to(device)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        times = torch.randint(0, len(alphas), (len(clean),), generator=generator).to(device)
        a = alphas[times].sqrt()[:, None, None, None]
        s = (1 - alphas[times]).sqrt()[:, None, None, None]
        family.set_face_scale(both["unet"], float(rng.random() >= NO_ADAPTER))
        added = {"image_embeds": [face[:, None].to(device)]}
        noisy = (a * clean + s * noise).contiguous(memory_format=torch.channels_last)
        with _half(device):
            told = both["text"](words.to(device)).last_hidden_state
            guess = both["unet"](noisy, times, told, added_cond_kwargs=added).sample
        loss = functional.mse_loss(guess.float(), a * noise - s * clean)
        _set_rate(adam, 4e-4, step, stop.steps)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        adam.step()
        _follow(smooth, both, min(0.9995, (1 + step) / (10 + step)))
        losses.append(float(loss.detach()))
        step += 1
        if step % 50 == 0:
            log(f"unet step {step} loss {np.mean(losses[-50:]):.4f}")
        if step % stop.save_every == 0:
            _put_down(folder / "unet.pt", both, adam, step, smooth)
            samples(folder / f"samples-{step:06d}.png", vae, smooth, tokenizer, shard, device)
    _put_down(folder / "unet.pt", both, adam, step, smooth)
    samples(folder / "samples.png", vae, smooth, tokenizer, shard, device)
    return smooth["unet"], smooth["text"]


def _views(person: np.ndarray, usable: np.ndarray) -> dict[int, np.ndarray]:
    return {int(p): np.flatnonzero(usable & (person == p)) for p in np.unique(person[usable])}


@torch.no_grad()
def _latents(vae: Any, shard: Shard, device: str) -> Tensor:
    parts = [
        vae.encode(_pictures(shard.pixels[i : i + 32], device)).latent_dist.mean.cpu()
        for i in range(0, len(shard.pixels), 32)
    ]
    return torch.cat(parts) * vae.config.scaling_factor


@torch.no_grad()
def _follow(smooth: torch.nn.Module, now: torch.nn.Module, keep: float) -> None:
    """Moving average of the weights; early on it follows closely."""
    for average, value in zip(smooth.parameters(), now.parameters(), strict=True):
        average.lerp_(value, 1 - keep)


@torch.no_grad()
def samples(path: Path, vae: Any, both: Any, tokenizer: Any, shard: Shard, device: str, people: int = 8) -> None:
    """People never trained on, and below each: by caption and face vector, by face, by caption, by nothing."""
    first = [int(np.flatnonzero(shard.person == p)[0]) for p in np.unique(shard.person[held_out(shard.person)])]
    first = [i for i in first if shard.embedding[i].any()][:people]
    if not first:
        return
    rows = torch.tensor(first)
    told = tokenizer([str(shard.caption[i]) for i in first], padding="max_length", return_tensors="pt").input_ids
    none = tokenizer([""] * len(first), padding="max_length", return_tensors="pt").input_ids
    face = torch.from_numpy(shard.embedding)[rows]
    grids = [_pictures(shard.pixels[first], device)]
    for words, scale in ((told, 1.0), (none, 1.0), (told, 0.0), (none, 0.0)):
        family.set_face_scale(both["unet"], scale)
        grids.append(draw(vae, both, words, none, face, device))
    _grid(torch.cat(grids), len(first)).save(path)


@torch.no_grad()
def draw(vae: Any, both: Any, words: Tensor, none: Tensor, faces: Tensor, device: str, guidance: float = 2.5) -> Tensor:
    """(N, 3, S, S) in -1…1, 25 DDIM steps from fixed noise."""
    scheduler = family.new_scheduler()
    scheduler.set_timesteps(25)
    size = both["unet"].config.sample_size
    x = torch.randn((len(words), 4, size, size), generator=torch.Generator().manual_seed(0)).to(device)
    text = both["text"](torch.cat([none, words]).to(device)).last_hidden_state
    added = {"image_embeds": [torch.cat([torch.zeros_like(faces), faces])[:, None].to(device)]}
    for t in scheduler.timesteps:
        plain, led = both["unet"](torch.cat([x, x]), t, text, added_cond_kwargs=added).sample.chunk(2)
        x = scheduler.step(plain + guidance * (led - plain), t, x).prev_sample
    return vae.decode(x / vae.config.scaling_factor).sample


# ── small things ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _pictures(pixels: np.ndarray, device: str) -> Tensor:
    """(N, S, S, 3) uint8 → (N, 3, S, S) in -1…1."""
    moved = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return moved.contiguous(memory_format=torch.channels_last)


def _grid(pictures: Tensor, columns: int) -> Image.Image:
    values = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().permute(0, 2, 3, 1).numpy()
    rows = [np.concatenate(list(values[i : i + columns]), 1) for i in range(0, len(values), columns)]
    return Image.fromarray(np.concatenate(rows, 0))


def _psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(4 / functional.mse_loss(a, b)))


def _set_rate(adam: torch.optim.Optimizer, top: float, step: int, steps: int) -> None:
    """A short rise, then level, then down over the last fifth."""
    rate = top * min(1, (step + 1) / 100) * min(1, max(0.02, (steps - step) / max(1, steps / 5)))
    for group in adam.param_groups:
        group["lr"] = rate


def _put_down(path: Path, model: Any, adam: Any, step: int, smooth: Any = None) -> None:
    state = {"model": model.state_dict(), "adam": adam.state_dict(), "step": step}
    if smooth is not None:
        state["smooth"] = smooth.state_dict()
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _take_up(path: Path, model: Any, adam: Any, smooth: Any = None) -> int:
    """The step to go on from; 0 for a new run."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    adam.load_state_dict(state["adam"])
    if smooth is not None:
        smooth.load_state_dict(state["smooth"])
    return int(state["step"])
