"""Face vectors (and what CLIP saw) become the tokens of the FaceID family and InstantID: (2, N, context).

First comes the negative face: the projector applied to a vector of zeros, and CLIP's view of an empty picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facechain.engines.diffusion.conventions import bare_clip_vision, clip_vision
from facechain.engines.diffusion.networks import open_folder
from facechain.engines.identity.align import chip
from facechain.engines.identity.checkpoint import Checkpoint
from facechain.engines.identity.clip import clip_pixels
from facechain.engines.identity.evidence import Evidence
from facechain.engines.identity.perceiver import Perceiver, TokenMlp
from facechain.errors import EngineError, PackMissing

MOST_FACES = 5  # Portrait was trained on up to five


class Projector:
    """Tokens of one person, for any of the kinds; opened once a sitting."""

    def __init__(self, file: Checkpoint, evidence: Evidence, clip: Path | None = None) -> None:
        weights = file.under("image_proj.")
        assert evidence.fused is not None
        self.kind = file.kind
        self.each, self.fused = evidence.vectors[:MOST_FACES], evidence.fused
        if "latents" in weights:
            self.net: Perceiver | TokenMlp = Perceiver.of(weights)
        else:
            self.net = TokenMlp.of(weights)
        self.reader = None
        if self.kind in ("faceid-plus", "faceid-plusv2"):
            at = "perceiver_resampler."
            self.reader = Perceiver.of({k[len(at) :]: v for k, v in weights.items() if k.startswith(at)})
            self.seen = look(clip, evidence, self.reader.proj_in.in_features)

    @torch.no_grad()
    def tokens(self, structure_scale: float = 1.0, average: bool = True) -> Tensor:
        """Of one averaged face; without `average` of the best photo, or, for Portrait, of up to five side by side."""
        each = self.each if self.kind == "portrait" else self.each[:1]
        vectors = (self.fused,) if average else each
        person = torch.from_numpy(np.stack([vector.vector for vector in vectors]))
        faces = torch.stack([torch.zeros_like(person), person])  # (2, faces, emb)
        if isinstance(self.net, Perceiver):
            return self.net(faces)
        tokens = self.net(faces.flatten(0, 1)).unflatten(0, (2, -1)).flatten(1, 2)
        if self.reader is None:
            return tokens
        looked = self.reader(self.seen, tokens)
        return looked if self.kind == "faceid-plus" else tokens + structure_scale * looked


@torch.no_grad()
def look(clip: Path | None, evidence: Evidence, width: int) -> Tensor:
    """CLIP's last but one hidden state of an empty picture and of the best aligned face, (2, 1 + patches, width)."""
    tower = _tower(clip, width)
    best, size = evidence.best, int(tower.config.image_size)
    face = clip_pixels([chip(best.pixels, best.face.points_px, size)], size)
    pictures = torch.cat([torch.zeros_like(face), face]).to(tower.dtype)
    return tower(pictures, output_hidden_states=True).hidden_states[-2].float()


def _tower(clip: Path | None, width: int) -> Any:
    """The image encoder in a transformers folder. Raises EngineError for none or another one, PackError if damaged."""
    if clip is None:
        raise EngineError(
            "FaceID Plus also looks at the face through CLIP ViT-H/14, which was not given.",
            "Name the image encoder's pack, or use plain FaceID.",
        )
    if not (clip / "config.json").is_file():
        raise PackMissing(f"The image encoder is not in {clip.name}.", "Fetch its pack.")
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    tower = open_folder(
        lambda config: CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config)),
        clip,
        f"the image encoder in {clip.name}",
        (clip_vision, bare_clip_vision),
        {r"(.+\.)?position_ids$": "counted, not learned"},
        ("model", "pytorch_model"),
    ).float()
    if tower.config.hidden_size != width:
        raise EngineError(
            f"This file looks through an image encoder {width} wide (CLIP ViT-H/14), but that in {clip.name} is "
            f"{tower.config.hidden_size} wide.",
            "Take models/image_encoder of h94/IP-Adapter.",
        )
    return tower
