"""Everything that can be chosen about a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from facechain.engines.diffusion.samplers import SAMPLERS
from facechain.engines.diffusion.setup import PRECISIONS
from facechain.errors import EngineError
from facechain.options import Field, Share, check, options_of

OPTIMIZERS = ("adamw", "adamw8bit", "prodigy")
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TRANSFORMER = (*_ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
TARGETS = {
    "attention": _ATTENTION,
    "transformer": _TRANSFORMER,
    "all": (*_TRANSFORMER, "conv1", "conv2", "conv_shortcut", "time_emb_proj"),  # LyCORIS calls it LoCon
}
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")

Count: TypeAlias = Annotated[int, Field(least=1)]
Weight: TypeAlias = Annotated[float, Field(least=0)]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    resolution_px: int = 512  # pictures of other shapes keep about this many pixels squared
    head_share: Share = 0.0  # of the picture's height, cut closer for bases that know faces so; 0: as the crop shows it
    steps: Count = 800
    batch: Count = 1
    accumulate: Count = 1  # batches a step, over all processes
    seed: int = 0

    rank: Annotated[int, Field(least=1, most=512)] = 16
    alpha: float = 16.0
    targets: Annotated[str, Field(choices=tuple(TARGETS))] = "attention"
    dora: bool = False
    train_text: bool = False

    optimizer: Annotated[str, Field(choices=OPTIMIZERS)] = "adamw"
    learning_rate: float = 1e-4
    text_learning_rate: float = 5e-5
    weight_decay: float = 1e-2
    warmup_steps: int = 0
    cosine: bool = True  # falls to zero at the last step; otherwise constant
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0  # 0: none

    snr_gamma: float = 5.0  # min-SNR (Hang et al. 2023); 0: every noise level counts the same
    noise_offset: float = 0.0
    face_weight: float = 1.0  # of the error inside the head
    background_weight: Weight = 0.1  # and outside of it
    preserve: float = 0.0  # weight of painting the background as the base would; costs a second pass
    prior_pictures: int = 0  # of anybody, painted by the base, learned beside
    prior_weight: float = 1.0
    flip: bool = False  # mirrored copies; off, as faces are not symmetric

    precision: Annotated[str, Field(choices=PRECISIONS)] = "auto"
    gradient_checkpointing: bool = False  # least memory, for about a third more time; the same numbers

    checkpoint_every: Count = 100
    keep_checkpoints: Count = 2  # to start again from
    validate_every: int = 100  # 0: the last step is the result
    validation_pictures: int = 4
    validation_steps: int = 20
    validation_guidance: float = 7.0
    validation_sampler: Annotated[str, Field(choices=tuple(SAMPLERS))] = "dpmpp_2m_karras"
    patience: int = 4  # validations without a rise before stopping; 0: never stop early
    average_best: Count = 1  # how many of the best checkpoints become one

    def __post_init__(self) -> None:
        check(vars(self), options_of(TrainSettings), "A training")
        need = (
            ("resolution_px", self.resolution_px >= 64 and self.resolution_px % 8 == 0, "a multiple of 8 from 64 on"),
            ("alpha", self.alpha > 0, "more than 0"),
            ("learning_rate", self.learning_rate > 0, "more than 0"),
            ("ema_decay", 0 <= self.ema_decay < 1, "from 0 to below 1"),
            ("face_weight", self.face_weight > 0, "more than 0"),
        )
        for name, right, expected in need:
            if not right:
                raise EngineError(f"{name} is {getattr(self, name)!r}.", f"Give {expected}.")
