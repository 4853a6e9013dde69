"""InstantID (Wang et al. 2024) on SDXL: face tokens in the attention, and IdentityNet for where the face is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.engines.identity.keypoints import draw_keypoints
from facechain.engines.identity.paint import paint, settings, sibling, worded
from facechain.engines.inpaint.repaint import points_of
from facechain.errors import EngineError
from facechain.protocols import EngineCard, FaceReader, Identity, Paint, Tick, silent
from facechain.types import Canvas, Crop, Person, Pixels, Points, Shot, Style

CARD = EngineCard(
    name="instantid",
    title="InstantID",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("instantid", "antelopev2"),
    needs_canvas=False,
    paints_canvas=False,
    recogniser="glintr100",
    summary="The strongest likeness from one photo, with the head where you want it. Non-commercial, as its face "
    "recogniser is.",
)


@dataclass(frozen=True, kw_only=True)
class InstantIdSettings:
    scale: float = 0.8  # of the face tokens
    control_scale: float = 0.8  # of IdentityNet
    pose: tuple[Any, ...] = ()  # five [x, y] in 0…1 of the picture; empty: as in the person's best photo
    face_only: bool = False  # let the face act only around itself
    controls: Mapping[str, Any] = field(default_factory=dict)  # extra ControlNet -> its picture
    control_scales: Mapping[str, float] = field(default_factory=dict)
    sampler: str = "euler"
    steps: int = 30
    guidance: float = 5.0


class InstantIdEngine:
    card = CARD

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        identitynet: Path,
        reader: FaceReader,
        controlnets: Mapping[str, Callable[[], Any]] | None = None,
        recogniser: str = "",
    ) -> None:
        """`base` gives a diffusers SDXL pipeline; `identitynet` is the published `ControlNetModel` folder.

        `controlnets` are further diffusers ControlNets (openpose, canny, depth) a shot may ask for by name.
        """
        self._base, self._path, self._net_folder, self._reader = base, checkpoint, identitynet, reader
        self._controlnets, self._recogniser = dict(controlnets or {}), recogniser

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        return learn_faces(person, "instantid", "instantid", self._reader, tick, self._recogniser, file=self._path.name)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        import torch
        from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel
        from diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl import StableDiffusionXLControlNetPipeline

        from facechain.engines.identity.attention import face_in, layout_of
        from facechain.engines.identity.identitynet import open_identitynet
        from facechain.engines.identity.project import Projector

        pipe = self._base()
        file = open_checkpoint(self._path, kinds=("instantid",), layout=layout_of(pipe.unet), kind="instantid")
        tokens = Projector(file, identity.data).tokens()
        net = open_identitynet(self._net_folder, pipe.unet.device, pipe.unet.dtype).for_face(tokens)
        with face_in(pipe.unet, file.under("ip_adapter."), ("to_k_ip", "to_v_ip"), tokens) as face:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(InstantIdSettings, style, shot)
                points = _pose(chosen.pose or points_of(onto, shot), identity.data.best, shot)
                mask = torch.from_numpy(_around(points, shot))[None] if chosen.face_only else None
                face.dial.scale, face.dial.mask, net.mask = chosen.scale, mask, mask
                nets = [net, *(self._control(name).to(pipe.unet.device, pipe.unet.dtype) for name in chosen.controls)]
                pictures = [draw_keypoints(points, shot.width_px, shot.height_px), *chosen.controls.values()]
                scales = [chosen.control_scale, *(chosen.control_scales.get(name, 0.8) for name in chosen.controls)]
                several = len(nets) > 1
                return paint(
                    sibling(
                        pipe,
                        StableDiffusionXLControlNetPipeline,
                        controlnet=MultiControlNetModel(nets) if several else net,
                    ),
                    worded(shot, style, identity.data),
                    chosen,
                    onto,
                    image=[_picture(p, shot) for p in pictures] if several else _picture(pictures[0], shot),
                    controlnet_conditioning_scale=scales if several else scales[0],
                )

            yield one

    def _control(self, name: str) -> Any:
        if name not in self._controlnets:
            known = ", ".join(sorted(self._controlnets)) or "none"
            raise EngineError(f"There is no ControlNet named {name!r} here.", f"Known: {known}.")
        return self._controlnets[name]()


def _picture(pixels: Pixels, shot: Shot) -> Any:
    from PIL import Image

    return Image.fromarray(pixels).resize((shot.width_px, shot.height_px), Image.Resampling.BILINEAR)


def _pose(pose: tuple[Any, ...], best: Crop, shot: Shot) -> Points:
    """The five points in picture pixels: as asked, or as in the best photo fitted into the middle of the picture."""
    size = np.array([shot.width_px, shot.height_px], np.float32)
    if pose:
        points = np.asarray(pose, np.float32)
        if points.shape != (5, 2):
            raise EngineError(f"A pose is five points, not {points.shape}.", "Give eyes, nose and mouth corners.")
        return points * size
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
