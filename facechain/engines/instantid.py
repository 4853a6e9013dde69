"""InstantID (Wang et al. 2024): face tokens in the attention, and IdentityNet for where the face is.

Published for SDXL, with a perceiver that makes the tokens; a base may bring its own, on any family, and with tokens as
FaceID makes them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field, field_validator

from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.sampling import Conditioning
from facechain.engines.diffusion.session import Condition, DiffusionContext
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import NO_LAYERWISE_OFFLOAD, OnePhotoEngine
from facechain.engines.identity.keypoints import draw_keypoints
from facechain.engines.inpaint.repaint import Repaint, guided_by, points_of
from facechain.protocols import EngineCard, FaceReader, Identity
from facechain.types import Crop, Points, Shot, Style


class InstantIdParams(SamplingParams):
    renamed: ClassVar[Mapping[str, str]] = {**SamplingParams.renamed, "scale": "identity_scale", "pose": "face_points"}

    identity_scale: float = Field(default=0.8, ge=0, le=5, description="Weight of the face tokens; 0 leaves them out.")
    control_scale: float = Field(default=0.8, ge=0, le=5, description="Conditioning scale of IdentityNet.")
    face_points: tuple[tuple[float, float], ...] = Field(
        default=(),
        description="Eyes, nose and mouth corners, [x, y] in 0…1; empty: the template's, or as in the best photo.",
    )
    head_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Head height per picture height when no points are given; 0: as in the photo.",
    )
    average: bool = Field(
        default=True, description="Average the face over all photos; otherwise use the best photo alone."
    )
    face_only: bool = Field(default=False, description="Let the face tokens act only around the face.")
    sampler: str = Field(default="euler", description="Scheduler.")
    steps: int = Field(default=30, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=5.0, ge=0, le=30, description="Classifier-free guidance scale.")

    @field_validator("face_points")
    @classmethod
    def _five(cls, points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        if points and len(points) != 5:
            raise ValueError("five points: the eyes, the nose and the corners of the mouth")
        return points


CARD = EngineCard(
    name="instantid",
    title="InstantID",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("instantid", "antelopev2"),
    needs_canvas=False,
    paints_canvas=True,
    takes_pose=True,
    params=InstantIdParams,
    unsupported=NO_LAYERWISE_OFFLOAD,
    recogniser="glintr100",
    summary="The strongest likeness from one photo, with the head where you want it.",
)


class InstantIdEngine(OnePhotoEngine):
    kinds = ("instantid", "faceid")

    def __init__(
        self,
        *,
        context: DiffusionContext,
        checkpoint: Path,
        identitynet: Path,
        reader: FaceReader,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`identitynet` is a `ControlNetModel` folder as published."""
        super().__init__(
            context=context, checkpoint=checkpoint, reader=reader, card=card, **{"kind": "instantid", **more}
        )
        self._net_folder = identitynet
        self._identitynet = functools.cache(self._open_identitynet)  # 2.5 GB, read once for all sittings

    def _open_identitynet(self, context: int, device: Any, dtype: Any) -> Any:
        from facechain.engines.identity.identitynet import open_identitynet

        return open_identitynet(self._net_folder, context, device, dtype)

    @contextmanager
    def conditioned(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Condition]:
        import torch

        from facechain.engines.identity.attention import face_in
        from facechain.engines.identity.lora import merged, numbered_pairs
        from facechain.engines.identity.project import Projector

        weights = file.under("ip_adapter.")
        tokens = functools.cache(Projector(file, identity.data).tokens)
        pairs = numbered_pairs(pipe.unet, weights) if file.kind == "faceid" else {}
        unet = pipe.unet
        net = self._identitynet(unet.config.cross_attention_dim, unet.device, unet.dtype).view()
        with face_in(pipe.unet, weights, ("to_k_ip", "to_v_ip")) as face, merged(pipe.unet, pairs) as lora:
            own = guided_by(pipe, net)

            def condition(shot: Shot, params: InstantIdParams, canvas: Repaint | None) -> Conditioning:
                points = _points(
                    params.face_points or points_of(canvas, shot), identity.data.best, shot, params.head_share
                )
                mask = torch.from_numpy(_around(points, shot))[None] if params.face_only else None
                net.face = tokens(average=params.average)
                face.give(net.face)
                face.dial.scale, face.dial.mask, net.mask = params.identity_scale, mask, mask
                lora.set(1.0 if params.identity_scale else 0.0)
                keypoints = Image.fromarray(draw_keypoints(points, shot.width_px, shot.height_px))
                inputs = {"image": keypoints, "controlnet_conditioning_scale": params.control_scale}
                return Conditioning(pipe=own, inputs=inputs)

            yield condition


def _points(given: tuple[Any, ...], best: Crop, shot: Shot, head_share: float = 0.0) -> Points:
    """The five points in picture pixels: as asked, or as in the best photo fitted into the middle of the picture.

    With `head_share` its head instead, so large, is put into the middle.
    """
    size = np.array([shot.width_px, shot.height_px], np.float32)
    if given:
        return np.asarray(given, np.float32) * size
    rows, columns = (np.flatnonzero((best.head_mask > 0.5).any(axis)) for axis in (1, 0))
    if head_share and len(rows):
        middle = np.array([columns[0] + columns[-1], rows[0] + rows[-1]], np.float32) / 2
        larger = head_share * shot.height_px / float(rows[-1] + 1 - rows[0])
        return np.asarray((best.face.points_px - middle) * larger + size / 2, np.float32)
    height, width = best.pixels.shape[:2]
    scale = float(min(size / [width, height]))
    return np.asarray(best.face.points_px * scale + (size - np.array([width, height]) * scale) / 2, np.float32)


def _around(points: Points, shot: Shot) -> np.ndarray:
    """(H, W) 1 inside the face's box: the points' box, twice as large."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = (high - low).max()
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = (high + margin).astype(int)
    mask = np.zeros((shot.height_px, shot.width_px), np.float32)
    mask[top:bottom, left:right] = 1
    return mask
