"""Third stage: IdentityNet, a ControlNet on the picture of five points that reads the face's tokens (Wang et al. 2024).

UNet, words and adapter stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facechain.lab import family
from facechain.lab.shards import Shard
from facechain.lab.train.lessons import Lesson, Lessons
from facechain.lab.train.loop import Rate, Run, Stop, begin, learn
from facechain.lab.train.practice import PRACTISED, UNLIKE, Paint, Practice
from facechain.types import Pixels, Points

_RATE = Rate(6e-4, fall=0.15)
_KEEP = 0.998  # of the averaged weights, each step
Draw = Callable[[Points, int, int], Pixels]  # points, width and height in pixels → the picture IdentityNet follows


def train_identitynet(run: Run, vae: Any, unet: Any, text: Any, practice: Practice, draw: Draw, stop: Stop) -> Any:
    """The net as averaged over training. Leaves identitynet.pt."""
    torch.manual_seed(run.seed + 2)
    tokenizer = family.read_tokenizer(run.folder / "tokenizer")
    net = family.new_identitynet(unet).to(run.device, memory_format=torch.channels_last)
    smooth = copy.deepcopy(net).requires_grad_(False)
    unet, text = (copy.deepcopy(model).to(torch.bfloat16).requires_grad_(False) for model in (unet, text))
    family.set_face_scale(unet, 1.0)
    worker, adam, step = begin(net, smooth, run.folder / "identitynet.pt", _RATE.top, run.team)
    if step < stop.steps:
        lessons = Lessons(run, vae, tokenizer)

        def painter(given: Lesson) -> Paint:
            shown = _shown(run.shard, given.rows, run.preset.size_px, draw).to(run.device)
            return lambda noisy, times, told, faces: predict_led(
                worker.copy, unet, noisy, times, told, faces, shown.repeat(len(noisy) // len(shown), 1, 1, 1)
            )

        def lesson(at: int) -> tuple[Tensor, Tensor]:
            # Where things are is settled while there is much noise, so such times come more often.
            given = lessons.at(at, run.preset.net_batch, late=True)
            told = text(given.words).last_hidden_state
            loss = given.loss(painter(given)(given.noisy, given.times, told, given.faces))
            # Held to the person at the points asked for, which also holds the face to them.
            faced = given.faced(PRACTISED)
            return loss, loss + UNLIKE * practice.unlike(text, painter(faced), faced, at, faced.points)

        file = run.folder / "identitynet.pt"
        learn("identitynet", file, net, worker, smooth, adam, step, stop, _RATE, _KEEP, run.log, lesson)
    return smooth


def predict_led(
    net: Any, unet: Any, noisy: Tensor, times: Tensor, told: Tensor, faces: Tensor, shown: Tensor
) -> Tensor:
    """The velocity where the net says where the face is. `shown` are the pictures of points, (N, 3, S, S) in 0…1."""
    noisy, faces = noisy.to(unet.dtype), faces.to(unet.dtype)
    tokens = unet.encoder_hid_proj.image_projection_layers[0](faces)
    down, middle = net(noisy, times, tokens, controlnet_cond=shown.to(unet.dtype), return_dict=False)
    return unet(
        noisy,
        times,
        told,
        added_cond_kwargs={"image_embeds": [faces[:, None]]},
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample


def _shown(shard: Shard, rows: np.ndarray, size_px: int, draw: Draw) -> Tensor:
    pictures = np.stack([draw(shard.points[row] * size_px, size_px, size_px) for row in rows])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
