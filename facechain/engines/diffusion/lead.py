"""Painting led by a recogniser: at each step it is asked whom it sees in what is being painted, and which way leads to
the person.

The guess at the finished picture is moved a little up the recogniser's gradient, through the decoder alone, and the
base goes on from there (He et al. 2023, "Manifold Preserving Guided Diffusion"; for faces Kim et al. 2022, "DiffFace").
It works in a scheduler's step, so for any base, sampler, ControlNet and engine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.errors import EngineError
from facechain.protocols import FaceReader
from facechain.types import Embedding, Network, Pixels

FIRST_SIGNAL = 0.4  # least share of the picture in what is painted so far: before, there is no face to be seen
_FIND_PX = 256  # detectors miss faces in smaller pictures
_LOUD = 1e3  # half precision would lose gradients as small as these are


@dataclass(frozen=True, kw_only=True, eq=False)
class Lead:
    """Whom to lead to."""

    face: NDArray[np.float32]  # (D,), unit length
    reader: FaceReader  # whose recogniser the face was read with
    network: Network  # that recogniser

    def uphill(self, vae: Any, clean: Any) -> Any:
        """(N, C, h, w) of mean square 1: which way the latents show the person more; 0 where no face is found."""
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            latents = clean.detach().clone().to(vae.dtype).requires_grad_(True)
            seen = vae.decode(latents / vae.config.scaling_factor).sample.float()
            rows, points = self._found(seen)
            if not rows:
                return torch.zeros_like(clean)
            recogniser = _opened(self.network).to(seen.device)
            vectors = recogniser(seen[rows], torch.from_numpy(points).to(seen.device))
            near = (vectors * torch.from_numpy(self.face).to(vectors)).sum()
            (slope,) = torch.autograd.grad(_LOUD * near, latents)
        slope = slope.float()
        length = slope.square().mean((1, 2, 3), keepdim=True).sqrt()
        usable = torch.isfinite(length) & (length > 0)
        return torch.where(usable, slope / length.clamp(min=1e-12), torch.zeros_like(slope)).to(clean.dtype)

    def _found(self, seen: Any) -> tuple[list[int], NDArray[np.float32]]:
        """Rows of the pictures (N, 3, H, W) that show a face, and the largest's five points in 0…1."""
        shown = ((seen.detach().clamp(-1, 1) + 1) * 127.5).nan_to_num().round().byte().permute(0, 2, 3, 1).cpu().numpy()
        found = {row: points for row, pixels in enumerate(shown) if (points := self._points(pixels)) is not None}
        return list(found), np.array(list(found.values()), np.float32).reshape(-1, 5, 2)

    def _points(self, pixels: Pixels) -> NDArray[np.float32] | None:
        larger = max(1.0, _FIND_PX / min(pixels.shape[:2]))
        if larger > 1:
            pixels = np.asarray(cv2.resize(pixels, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC), np.uint8)
        faces = self.reader.detect(pixels)
        if not faces:
            return None
        height, width = pixels.shape[:2]
        largest = max(faces, key=lambda face: face.width_px * face.height_px)
        return (largest.points_px + 0.5) / np.array([width, height], np.float32)


def lead_to(face: Embedding | None, reader: FaceReader | None) -> Lead:
    """Raises EngineError for a face that was not read, or by a recogniser that cannot be looked through."""
    network: Network | None = getattr(reader, "network", None)
    if face is None or reader is None or network is None:
        raise EngineError(
            "Nothing here can say how like the person a picture is becoming.", "Leave `likeness` out, or set it to 0."
        )
    if face.recogniser != reader.recogniser:
        raise EngineError(
            f"The face was read by {face.recogniser}, not by {reader.recogniser}.", "Add the person's photos again."
        )
    return Lead(face=face.vector / max(float(np.linalg.norm(face.vector)), 1e-12), reader=reader, network=network)


@functools.lru_cache(maxsize=2)
def _opened(network: Network) -> Any:
    from facechain.engines.diffusion.recogniser import Recogniser

    return Recogniser(network)


def led(scheduler: Any, vae: Any, lead: Lead, likeness: float) -> Any:
    """The same scheduler, new, whose steps lead to the person.

    `likeness` is how far: the latents' mean shift in a step, as a share of the noise that is left. Raises EngineError
    beyond 0…1.
    """
    if not 0 <= likeness <= 1:
        raise EngineError(f"likeness is {likeness:g}.", "Give a number from 0 to 1; 0.1 is much.")
    made = type(scheduler).from_config(scheduler.config)
    plain: Callable[..., Any] = made.step

    @functools.wraps(plain)  # pipelines read a step's parameters
    def step(model_output: Any, timestep: Any, sample: Any, *args: Any, **more: Any) -> Any:
        noise, spread = _noise(made, timestep), _spread(made)
        done = plain(model_output, timestep, sample, *args, **more)
        if 1 / math.hypot(1, noise) < FIRST_SIGNAL:
            return done
        clean = _clean(made, model_output, sample / math.hypot(1, noise) if spread else sample, noise)
        after = 1.0 if spread else 1 / math.hypot(1, _noise_after(made, timestep))
        shift = likeness * noise * after * lead.uphill(vae, clean)
        if isinstance(done, tuple):
            return (done[0] + shift.to(done[0].dtype), *done[1:])
        done.prev_sample = done.prev_sample + shift.to(done.prev_sample.dtype)
        return done

    made.step = step
    return made


def _spread(scheduler: Any) -> bool:
    """Whether its samples are picture + sigma × noise, instead of shares of both that keep the variance."""
    return type(scheduler).__name__.startswith(("Euler", "Heun", "KDPM2"))


def _noise(scheduler: Any, timestep: Any) -> float:
    """Noise over picture, in amplitude, in the sample that comes in at this time."""
    if hasattr(scheduler, "sigmas"):
        if scheduler.step_index is None:
            scheduler._init_step_index(timestep)
        return float(scheduler.sigmas[scheduler.step_index])
    return _ratio(scheduler.alphas_cumprod[int(timestep)])


def _noise_after(scheduler: Any, timestep: Any) -> float:
    """And in the one that goes out; after the step."""
    if hasattr(scheduler, "sigmas"):
        return float(scheduler.sigmas[min(scheduler.step_index, len(scheduler.sigmas) - 1)])
    times = scheduler.timesteps.tolist()
    place = times.index(int(timestep)) + 1
    return _ratio(scheduler.alphas_cumprod[times[place]]) if place < len(times) else 0.0


def _ratio(kept: Any) -> float:
    return math.sqrt((1 - float(kept)) / max(float(kept), 1e-12))


def _clean(scheduler: Any, said: Any, sample: Any, noise: float) -> Any:
    """The network's guess at the picture's latents, from a sample that keeps the variance."""
    signal, share = 1 / math.hypot(1, noise), noise / math.hypot(1, noise)
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return said
    return signal * sample - share * said if kind == "v_prediction" else (sample - share * said) / signal
