"""How unlike its person a guessed picture is, as SFace sees it through the autoencoder's outward half."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from facechain.lab.train.lessons import Lesson
from facechain.lab.train.sface import Sface

FACES = 4  # of a lesson: looking at one costs as much as learning from three
CLEAR = 0.5  # least share of the picture in what the network sees; from less, a guess is a blot


class Likeness:
    """`axes` (D, D) are the discriminant's, on which the lessons' own faces lie."""

    def __init__(self, vae: Any, sface: Sface, axes: Tensor, device: str) -> None:
        self._vae = copy.deepcopy(vae).requires_grad_(False)
        self._sface, self._axes = sface, axes.to(device)

    def unlike(self, lesson: Lesson, guess: Tensor) -> Tensor:
        """1 - cosine between the faces guessed and the right ones, mean of a few of the lesson."""
        clear = lesson.own.any(1) & (lesson.signal.flatten() >= CLEAR)
        rows = torch.nonzero(clear).flatten()[:FACES]
        if not len(rows):
            return guess.new_zeros((), dtype=torch.float32)
        clean = lesson.signal[rows] * lesson.noisy[rows] - lesson.noise[rows] * guess[rows].float()
        seen = self._vae.decode(clean / self._vae.config.scaling_factor).sample
        _, vectors = self._sface(seen, lesson.points[rows])
        told = functional.normalize(vectors @ self._axes, dim=1)
        return (1 - (told * lesson.own[rows]).sum(1)).mean()
