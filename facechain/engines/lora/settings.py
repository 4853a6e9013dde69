"""Everything that can be chosen about a training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from facechain.engines.diffusion.samplers import SAMPLERS
from facechain.errors import EngineError
from facechain.params import EngineParams, File

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TRANSFORMER = (*_ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
TARGETS = {
    "attention": _ATTENTION,
    "transformer": _TRANSFORMER,
    "all": (*_TRANSFORMER, "conv1", "conv2", "conv_shortcut", "time_emb_proj"),  # LyCORIS calls it LoCon
}
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


class TrainSettings(EngineParams):
    resolution_px: int = Field(
        default=512, ge=64, le=4096, multiple_of=8, description="Pictures of other shapes keep about this many squared."
    )
    head_share: float = Field(
        default=0.0, ge=0, le=1, description="Head height per picture height, cut closer; 0: as the crop shows it."
    )
    steps: int = Field(default=800, ge=1, description="Optimizer steps.")
    batch: int = Field(default=1, ge=1, description="Pictures per forward pass.")
    accumulate: int = Field(default=1, ge=1, description="Batches per step, over all processes.")
    seed: int = Field(default=0, description="Seed of the training.")

    rank: int = Field(default=16, ge=1, le=512, description="Rank of the LoRA.")
    alpha: float = Field(default=16.0, gt=0, description="LoRA alpha; the weights count alpha / rank.")
    targets: Literal["attention", "transformer", "all"] = Field(
        default="attention", description="Layers trained: attention, whole transformer blocks, or convolutions too."
    )
    dora: bool = Field(default=False, description="Weight-decomposed LoRA (DoRA).")
    train_text: bool = Field(default=False, description="Train the text encoders too.")

    optimizer: Literal["adamw", "adamw8bit", "prodigy"] = Field(default="adamw", description="Optimizer.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate of the UNet's weights.")
    text_learning_rate: float = Field(default=5e-5, description="Learning rate of the text encoders' weights.")
    weight_decay: float = Field(default=1e-2, description="Weight decay.")
    warmup_steps: int = Field(default=0, description="Steps of linear warm-up.")
    cosine: bool = Field(default=True, description="Cosine decay to zero at the last step; otherwise constant.")
    max_grad_norm: float = Field(default=1.0, description="Gradient clipping.")
    ema_decay: float = Field(default=0.0, ge=0, lt=1, description="Moving average of the weights; 0: none.")

    snr_gamma: float = Field(default=5.0, description="Min-SNR weighting (Hang et al. 2023); 0: none.")
    noise_offset: float = Field(default=0.0, description="Offset noise.")
    face_weight: float = Field(default=1.0, gt=0, description="Loss weight inside the head.")
    background_weight: float = Field(default=0.1, ge=0, description="Loss weight outside the head.")
    preserve: float = Field(
        default=0.0, description="Weight of keeping the background as the base paints it; costs a second pass."
    )
    prior_pictures: int = Field(default=0, description="Prior-preservation pictures, painted by the base.")
    prior_weight: float = Field(default=1.0, description="Loss weight of the prior-preservation pictures.")
    flip: bool = Field(default=False, description="Mirrored copies; off, as faces are not symmetric.")

    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(default="auto", description="Precision of the passes.")
    gradient_checkpointing: bool = Field(
        default=False, description="Least memory, for about a third more time; the same numbers."
    )

    checkpoint_every: int = Field(default=100, ge=1, description="Steps between checkpoints to resume from.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Checkpoints kept to resume from.")
    validate_every: int = Field(default=100, description="Steps between validations; 0: the last step is the result.")
    validation_pictures: int = Field(default=4, description="Pictures per validation.")
    validation_steps: int = Field(default=20, description="Denoising steps of a validation picture.")
    validation_guidance: float = Field(default=7.0, description="Guidance scale of a validation picture.")
    validation_sampler: str = Field(default="dpmpp_2m_karras", description="Scheduler of a validation picture.")
    patience: int = Field(default=4, description="Validations without a rise before stopping; 0: never stop early.")
    average_best: int = Field(default=1, ge=1, description="How many of the best checkpoints are averaged.")

    @model_validator(mode="after")
    def _known_sampler(self) -> Self:
        if self.validation_sampler not in SAMPLERS:
            raise EngineError(f"validation_sampler is {self.validation_sampler!r}.", f"Known: {', '.join(SAMPLERS)}.")
        return self


class TrainingRequest(TrainSettings):
    """What `facechain train --set` takes: also how the training is run."""

    effort: float = Field(default=1.0, ge=0.01, le=100, description="Multiplies the usual number of steps.")
    vae: File = Field(default="", description="VAE folder or file that replaces the base's own.")
    processes: int = Field(default=1, ge=1, description="Processes that share the training.")
    prepare: bool = Field(default=False, description="Only write the captions, to be edited.")
