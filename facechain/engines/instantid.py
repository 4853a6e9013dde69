"""InstantID (Wang et al. 2024): face tokens in the attention, and IdentityNet for where the face is.

Published for SDXL, with a perceiver that makes the tokens; a base may bring its own, on any family, and with tokens as
FaceID makes them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facechain.engines.diffusion.samplers import Sampler
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.engine import OnePhotoEngine
from facechain.engines.identity.keypoints import draw_keypoints
from facechain.engines.identity.paint import Brush, paint, settings, worded
from facechain.engines.inpaint.repaint import guided_by, points_of
from facechain.errors import EngineError
from facechain.options import Guidance, Scale, Share, Steps, options_of
from facechain.protocols import EngineCard, FaceReader, Identity, Paint
from facechain.types import Canvas, Crop, Pixels, Points, Shot, Style


@dataclass(frozen=True, kw_only=True)
class InstantIdSettings(Brush):
    scale: Scale = 0.8  # of the face tokens
    control_scale: Scale = 0.8  # of IdentityNet
    pose: tuple[Any, ...] = ()  # five [x, y] in 0…1; empty: the template's, or as in the person's best photo
    head_share: Share = 0.0  # of the height, that the head fills where no pose is given; 0: as in the photo
    average: bool = True  # one face averaged over all photos; False: the best photo alone
    face_only: bool = False  # let the face act only around itself
    sampler: Sampler = "euler"
    steps: Steps = 30
    guidance: Guidance = 5.0


CARD = EngineCard(
    name="instantid",
    title="InstantID",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("instantid", "antelopev2"),
    needs_canvas=False,
    paints_canvas=False,
    takes_pose=True,
    recogniser="glintr100",
    summary="The strongest likeness from one photo, with the head where you want it.",
    options=options_of(InstantIdSettings),
)


class InstantIdEngine(OnePhotoEngine):
    kinds = ("instantid", "faceid")

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        identitynet: Path,
        reader: FaceReader,
        card: EngineCard = CARD,
        **more: Any,
    ) -> None:
        """`base` gives a diffusers pipeline; `identitynet` is a `ControlNetModel` folder as published."""
        super().__init__(base=base, checkpoint=checkpoint, reader=reader, card=card, **{"kind": "instantid", **more})
        self._net_folder = identitynet
        self._identitynet = functools.cache(self._open_identitynet)  # 2.5 GB, read once for all sittings

    def _open_identitynet(self, context: int, device: Any, dtype: Any) -> Any:
        from facechain.engines.identity.identitynet import open_identitynet

        return open_identitynet(self._net_folder, context, device, dtype)

    @contextmanager
    def _paints(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> Iterator[Paint]:
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

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(InstantIdSettings, style, shot)
                points = _pose(chosen.pose or points_of(onto, shot), identity.data.best, shot, chosen.head_share)
                mask = torch.from_numpy(_around(points, shot))[None] if chosen.face_only else None
                net.face = tokens(average=chosen.average)
                face.give(net.face)
                face.dial.scale, face.dial.mask, net.mask = chosen.scale, mask, mask
                lora.set(1.0 if chosen.scale else 0.0)
                return paint(
                    own,
                    worded(shot, style, identity.data),
                    chosen,
                    onto,
                    self._controlnets,
                    self._lead(identity),
                    image=_picture(draw_keypoints(points, shot.width_px, shot.height_px)),
                    controlnet_conditioning_scale=chosen.control_scale,
                )

            yield one


def _picture(pixels: Pixels) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def _pose(pose: tuple[Any, ...], best: Crop, shot: Shot, head_share: float = 0.0) -> Points:
    """The five points in picture pixels: as asked, or as in the best photo fitted into the middle of the picture.

    With `head_share` its head instead, so large, is put into the middle.
    """
    size = np.array([shot.width_px, shot.height_px], np.float32)
    if pose:
        points = np.asarray(pose, np.float32)
        if points.shape != (5, 2):
            raise EngineError(f"A pose is five points, not {points.shape}.", "Give eyes, nose and mouth corners.")
        return points * size
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
