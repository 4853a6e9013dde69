"""Crops and captions become cached latents, masks and text embeddings: the VAE and, if they are not trained, the text
encoders run once and can leave memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facechain.engines.lora import text
from facechain.engines.lora.job import Example, write_whole
from facechain.engines.lora.settings import TrainSettings
from facechain.types import Mask, Pixels, Points


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Tensors of one bucket, B pictures."""

    mean: Any  # (B, 4, h, w) of the latents' distribution, scaled
    std: Any  # (B, 4, h, w)
    weight: Any  # (B, 1, h, w) head 1 … 0 background
    prior: Any  # (B,) 1 for pictures of anybody, 0 for the person's
    ids: Any  # (B, encoders, 77) tokens
    text: Any | None  # (B, 77, width), or None when text encoders are trained
    pooled: Any | None  # (B, width), SDXL
    size: Any  # (B, 6) SDXL's size words: original, crop corner, target


class Examples:
    """Everything the training sees, on the CPU; read by batch number, so nothing depends on what came before."""

    def __init__(self, rows: Sequence[dict[str, Any]], settings: TrainSettings) -> None:
        self.rows = list(rows)
        self._settings = settings
        self._buckets: dict[tuple[int, ...], list[int]] = {}
        for index, row in enumerate(self.rows):
            self._buckets.setdefault(tuple(row["mean"].shape), []).append(index)

    def batch(self, number: int) -> Batch:
        """Batch `number` of an endless sequence: every epoch shuffled anew by (seed, epoch), buckets unmixed."""
        import torch

        per_epoch = sum(-(-len(bucket) // self._settings.batch) for bucket in self._buckets.values())
        epoch, place = divmod(number, per_epoch)
        order = np.random.default_rng([self._settings.seed, epoch])
        plan = []
        for key in sorted(self._buckets):
            shuffled = list(order.permutation(self._buckets[key]))
            for start in range(0, len(shuffled), self._settings.batch):
                # A short last batch is filled up from the start, so that all have one size.
                taken = shuffled[start : start + self._settings.batch]
                plan.append((taken * self._settings.batch)[: self._settings.batch] if taken else taken)
        rows = [self.rows[i] for i in plan[order.permutation(len(plan))[place]]]

        def stack(name: str) -> Any:
            return torch.stack([row[name] for row in rows])

        return Batch(
            mean=stack("mean"),
            std=stack("std"),
            weight=stack("weight"),
            prior=stack("prior"),
            ids=stack("ids"),
            text=stack("text") if "text" in rows[0] else None,
            pooled=stack("pooled") if "pooled" in rows[0] else None,
            size=stack("size"),
        )


def prepare(
    pipe: Any, examples: Sequence[Example], prior: Sequence[Example], settings: TrainSettings, cache: Path
) -> Examples:
    """From `cache` when it was made of the same pictures, words and base; otherwise made and kept there."""
    from safetensors import safe_open
    from safetensors.torch import save

    digest = _digest(pipe, examples, prior, settings)
    if cache.is_file():
        with safe_open(cache, framework="pt") as file:
            if (file.metadata() or {}).get("digest") == digest:
                rows: dict[int, dict[str, Any]] = {}
                for key in file.keys():  # noqa: SIM118
                    number, name = key.split("/")
                    rows.setdefault(int(number), {})[name] = file.get_tensor(key)
                return Examples([rows[i] for i in sorted(rows)], settings)
    made = []
    for example, of_anybody in [*((e, False) for e in examples), *((e, True) for e in prior)]:
        for flipped in (False, True) if settings.flip and not of_anybody else (False,):
            row = _latents(pipe, example, of_anybody, flipped, settings)
            row["ids"] = text.tokens(pipe, example.caption)
            if not settings.train_text:
                row |= {name: value[0] for name, value in text.embeddings(pipe, row["ids"][None]).items()}
            made.append(row)
    tensors = {f"{i}/{name}": value.contiguous().cpu() for i, row in enumerate(made) for name, value in row.items()}
    write_whole(cache, save(tensors, {"digest": digest}))
    return Examples([{name: value.cpu() for name, value in row.items()} for row in made], settings)


def _latents(pipe: Any, example: Example, of_anybody: bool, flipped: bool, settings: TrainSettings) -> dict[str, Any]:
    import torch

    pixels, head = example.pixels, example.head
    if settings.head_share and not of_anybody:
        pixels, head = closer(pixels, head, settings.head_share)
    original = pixels.shape[:2]
    pixels, head, corner = fitted(pixels, head, settings.resolution_px)
    if flipped:
        pixels, head = pixels[:, ::-1], head[:, ::-1]
    height, width = pixels.shape[:2]
    vae = pipe.vae
    tensor = torch.from_numpy(np.ascontiguousarray(pixels).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        found = vae.encode(tensor.to(vae.device, vae.dtype)).latent_dist
    small = cv2.resize(np.ascontiguousarray(head), (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    return {
        "mean": (found.mean[0] * vae.config.scaling_factor).float(),
        "std": (found.std[0] * vae.config.scaling_factor).float(),
        "weight": torch.from_numpy(np.clip(small, 0, 1).astype(np.float32))[None],
        "prior": torch.tensor(float(of_anybody)),
        "size": torch.tensor([float(v) for v in (*original, *corner, height, width)]),
    }


def closer(pixels: Pixels, head: Mask, share: float) -> tuple[Pixels, Mask]:
    """A square around the head that fills `share` of its height; past an edge the edge goes on. Unchanged without a
    head."""
    rows, columns = np.flatnonzero((head > 0.5).any(1)), np.flatnonzero((head > 0.5).any(0))
    if not len(rows):
        return pixels, head
    side = max(8, round((rows[-1] + 1 - rows[0]) / share))
    top, left = (round((span[0] + span[-1] + 1 - side) / 2) for span in (rows, columns))
    down = np.clip(np.arange(top, top + side), 0, head.shape[0] - 1)
    right = np.clip(np.arange(left, left + side), 0, head.shape[1] - 1)
    cut = np.ix_(down, right)
    return pixels[cut], head[cut]


def continued(pixels: Pixels, photo_px: Points) -> Pixels:
    """A crop with what lies past the photo's edge replaced by the nearest of the photo: a white rim would be learned.

    `photo_px` (4, 2) are the photo's corners in crop pixels. Unchanged when they leave nothing of it.
    """
    filled = np.ones(pixels.shape[:2], np.uint8)
    cv2.fillConvexPoly(filled, np.round(photo_px).astype(np.int32), (0,))
    filled = cv2.dilate(filled, np.ones((5, 5), np.uint8))  # the pixels along the edge are half filled
    if filled.all() or not filled.any():
        return pixels
    _, found = cv2.distanceTransformWithLabels(filled, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    labels, shown = np.asarray(found, np.intp), filled == 0
    nearest = np.empty((labels.max() + 1, 3), np.uint8)
    nearest[labels[shown]] = pixels[shown]
    return np.asarray(nearest[labels], np.uint8)


def fitted(pixels: Pixels, head: Mask, resolution_px: int) -> tuple[Pixels, Mask, tuple[int, int]]:
    """Resized and cut to the bucket nearest in shape; the third is the cut's top and left in the resized picture."""
    from diffusers.training_utils import find_nearest_bucket, generate_aspect_ratio_buckets

    step = 64 if resolution_px >= 256 else 8
    buckets = generate_aspect_ratio_buckets(resolution_px, divisibility=step)
    height, width = pixels.shape[:2]
    to_height, to_width = buckets[find_nearest_bucket(height, width, buckets) or 0]
    scale = max(to_height / height, to_width / width)
    size = (max(to_width, round(width * scale)), max(to_height, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    large, mask = cv2.resize(pixels, size, interpolation=how), cv2.resize(head, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - to_height) // 2, (size[0] - to_width) // 2
    cut = np.s_[top : top + to_height, left : left + to_width]
    return np.asarray(large[cut], np.uint8), np.asarray(mask[cut], np.float32), (top, left)


def _digest(pipe: Any, examples: Sequence[Example], prior: Sequence[Example], settings: TrainSettings) -> str:
    made = hashlib.sha256(
        repr((settings.resolution_px, settings.head_share, settings.flip, settings.train_text)).encode()
    )
    for example in (*examples, *prior):
        made.update(example.pixels.tobytes() + example.head.tobytes() + example.caption.encode() + b"\0")
    for part in ("vae", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, part, None)
        if model is not None:
            made.update(str(model.dtype).encode())
            for value in list(model.parameters())[:4]:
                made.update(value.detach().flatten()[:4096].float().cpu().numpy().tobytes())
    return made.hexdigest()
