"""What the network paints by itself, from noise alone, and how unlike the person it was asked for that is.

A guess at a lesson's picture begins with that picture shining through the noise; when the network paints, nothing
does, and mistakes add up. So it is also held to the person where it gets by itself, with gradients of the last look
alone (ReFL, Xu et al. 2023; PuLID, Guo et al. 2024, does so for identity).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facechain.lab import family
from facechain.lab.train.lessons import Lesson, axes
from facechain.lab.train.loop import Run
from facechain.lab.train.sface import Sface
from facechain.protocols import FaceReader
from facechain.types import Pixels

UNLIKE = 0.08  # weight of faces that are not the person's, beside a lesson's own loss
PRACTISED = 4  # pictures a step that are painted: about as dear as learning from 32
STEPS = (5, 8)  # of a painting, least and most
FIRST_LOOK = 0.45  # least share of the picture in what the network sees at the last look
GUIDANCE = (1.5, 4.0)  # as people paint with, least and most
_FRESH = 0.9  # share of new noise in a step's; with all of it, the first step from noise alone rounds to no number
_JITTER = 0.01  # of the key points, in picture widths, so that no single alignment is learned

Find = Callable[[Pixels], np.ndarray | None]  # picture → (5, 2) key points in picture widths, None without one face
Paint = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # noisy, time, words as `text` read them, faces → velocity
_FIND_PX = 256  # detectors miss faces in smaller pictures


class Practice:
    def __init__(self, run: Run, vae: Any, sface: Sface, find: Find) -> None:
        self._vae = copy.deepcopy(vae).to(torch.bfloat16, memory_format=torch.channels_last).requires_grad_(False)
        self._sface, self._find = sface, find
        self._empty = family.token_ids(family.read_tokenizer(run.folder / "tokenizer"), [""]).to(run.device)
        self._axes = axes(run.shard).to(run.device)  # on which the lessons' own faces lie
        self._seed, self._device = run.seed, run.device

    def unlike(self, text: Any, paint: Paint, lesson: Lesson, at: int, points: Tensor | None = None) -> Tensor:
        """1 - cosine between the faces painted and the right ones, mean of the lesson, of which each has a face.

        Faces are looked for, or are to be at `points` (N, 5, 2) in picture widths.
        """
        clean = self._guess(text, paint, lesson, at)
        seen = self._vae.decode((clean / self._vae.config.scaling_factor).to(self._vae.dtype)).sample.float()
        there = torch.arange(len(seen))
        if points is None:
            there, points = self._found(seen)
        if not len(there):
            return clean.new_zeros(())
        near = points + _JITTER * torch.randn(points.shape, generator=self._generator(at)).to(points)
        vectors = self._sface(seen[there], near.to(self._device))
        told = functional.normalize(vectors @ self._axes, dim=1)
        return (1 - (told * lesson.own[there]).sum(1)).mean()

    def _generator(self, at: int) -> torch.Generator:
        return torch.Generator().manual_seed(500_009 * (self._seed + 1) + at)

    def _found(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the pictures in which there is one face, and its points."""
        shown = ((seen.detach().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        found = {row: points for row, picture in enumerate(shown) if (points := self._find(picture)) is not None}
        return torch.tensor(list(found), dtype=torch.long), torch.tensor(np.array(list(found.values())))

    def _guess(self, text: Any, paint: Paint, lesson: Lesson, at: int) -> Tensor:
        """Latents of the picture as the network sees it when it has painted so far; gradients lead one look back."""
        rng, generator = (
            np.random.default_rng([self._seed, 3, at]),
            torch.Generator().manual_seed(500_009 * (self._seed + 1) + at),
        )
        scheduler = family.new_scheduler()
        scheduler.set_timesteps(int(rng.integers(STEPS[0], STEPS[1] + 1)))
        signal = scheduler.alphas_cumprod[scheduler.timesteps].sqrt().numpy()
        last = int(rng.integers(np.flatnonzero(signal >= FIRST_LOOK)[0], len(signal)))
        guidance = float(rng.uniform(*GUIDANCE))
        nobody = torch.zeros_like(lesson.faces)
        told = text(lesson.words).last_hidden_state
        with torch.no_grad():
            none = text(self._empty).last_hidden_state.expand_as(told)
        both = (torch.cat([none, told.detach()]), torch.cat([nobody, lesson.faces]))
        x = torch.randn(lesson.noisy.shape, generator=generator).to(self._device)
        for t in scheduler.timesteps[:last]:
            with torch.no_grad():
                plain, led = paint(torch.cat([x, x]), t, *both).float().chunk(2)
            x = scheduler.step(plain + guidance * (led - plain), t, x, eta=_FRESH, generator=generator).prev_sample
        t = scheduler.timesteps[last]
        with torch.no_grad():
            plain = paint(x, t, none, nobody).float()
        velocity = plain + guidance * (paint(x, t, told, lesson.faces).float() - plain)
        return scheduler.step(velocity, t, x).pred_original_sample


def found_by(reader: FaceReader) -> Find:
    def find(picture: Pixels) -> np.ndarray | None:
        larger = cv2.resize(picture, (_FIND_PX, _FIND_PX), interpolation=cv2.INTER_CUBIC)
        faces = reader.detect(np.asarray(larger, np.uint8))
        return (faces[0].points_px + 0.5) / _FIND_PX if len(faces) == 1 else None

    return find
