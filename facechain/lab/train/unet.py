"""Second stage: words, UNet and face adapter together, seeded by step."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facechain.lab import family
from facechain.lab.family import Preset
from facechain.lab.shards import Shard
from facechain.lab.train.lessons import Lessons, axes
from facechain.lab.train.loop import Rate, Run, Stop, begin, grid, held_out, learn, pictures
from facechain.lab.train.practice import PRACTISED, UNLIKE, Practice

NO_ADAPTER = 0.12  # share of steps without the adapter, so that the base alone is a model too
TOP_RATE = 6e-4
_KEEP = 0.997  # of the averaged weights, each step


def train_unet(run: Run, vae: Any, stop: Stop, practice: Practice | None = None) -> tuple[Any, Any]:
    """UNet with its adapter, and text model, as averaged over training. Leaves unet.pt and sample grids.

    With `practice`, it goes on from there; the rate then falls over the steps that are left.
    """
    torch.manual_seed(run.seed + 1)
    tokenizer = family.read_tokenizer(run.folder / "tokenizer")
    both, smooth = new_both(run.preset, tokenizer, run.shard, run.device)
    worker, adam, step = begin(both, smooth, run.folder / "unet.pt", TOP_RATE, run.team)
    if step < stop.steps:
        lessons = Lessons(run, vae, tokenizer)
        text, paint = worker.copy["text"], partial(predict, worker.copy["unet"])

        def lesson(at: int) -> tuple[Tensor, Tensor]:
            given = lessons.at(at, run.preset.unet_batch)
            faced = given.chance >= NO_ADAPTER
            family.set_face_scale(worker.copy["unet"], float(faced))
            loss = given.loss(paint(given.noisy, given.times, text(given.words).last_hidden_state, given.faces))
            if practice is None or not faced:
                return loss, loss
            return loss, loss + UNLIKE * practice.unlike(text, paint, given.faced(PRACTISED), at)

        def show(at: int) -> None:
            samples(run.folder / f"samples-{at:06d}.png", vae, smooth, tokenizer, run.shard, run.device)

        name, fall = ("practice", run.preset.practice_steps / stop.steps) if practice else ("unet", 0.0)
        file, rate = run.folder / "unet.pt", Rate(TOP_RATE, fall)
        learn(name, file, both, worker, smooth, adam, step, stop, rate, _KEEP, run.log, lesson, show)
    if run.team.leads:
        samples(run.folder / "samples.png", vae, smooth, tokenizer, run.shard, run.device)
    return smooth["unet"], smooth["text"]


def new_both(preset: Preset, tokenizer: Any, shard: Shard, device: str) -> tuple[Any, Any]:
    """UNet and text model, and a copy of them for their average."""
    unet = family.new_unet(preset)
    family.spread_faces(unet, axes(shard))
    both = torch.nn.ModuleDict({"unet": unet, "text": family.new_text(preset, tokenizer)}).to(device)
    both["unet"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return both, copy.deepcopy(both).requires_grad_(False)


def predict(unet: Any, noisy: Tensor, times: Tensor, told: Tensor, faces: Tensor) -> Tensor:
    """The velocity, in the precision of the UNet. `told` is what the text model read."""
    added = {"image_embeds": [faces[:, None].to(unet.dtype)]}
    return unet(noisy.to(unet.dtype), times, told, added_cond_kwargs=added).sample


@torch.no_grad()
def samples(path: Path, vae: Any, both: Any, tokenizer: Any, shard: Shard, device: str, people: int = 8) -> None:
    """People never trained on, and below each: by caption and face vector, by face, by caption, by nothing."""
    first = [int(np.flatnonzero(shard.person == p)[0]) for p in np.unique(shard.person[held_out(shard.person)])]
    first = [i for i in first if shard.embedding[i].any()][:people]
    if not first:
        return
    rows = torch.tensor(first)
    told = family.token_ids(tokenizer, [str(shard.caption[i]) for i in first])
    none = family.token_ids(tokenizer, [""] * len(first))
    face = torch.from_numpy(shard.embedding)[rows]
    grids = [pictures(shard.pixels[first], device)]
    for words, scale in ((told, 1.0), (none, 1.0), (told, 0.0), (none, 0.0)):
        family.set_face_scale(both["unet"], scale)
        grids.append(draw(vae, both, words, none, face, device))
    grid(torch.cat(grids), len(first)).save(path)


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
