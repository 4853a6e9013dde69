"""Parameters that every engine on a diffusion base takes, whatever puts the person into the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from facechain.engines.diffusion.samplers import SAMPLERS
from facechain.engines.diffusion.setup import Setup
from facechain.errors import EngineError
from facechain.params import EngineParams, File, Picture, WeightedFile

INPAINTING_STRENGTH = 0.65  # enough for another person's features, little enough for the template's light and pose
IMG2IMG_STRENGTH = 0.7
RUNTIME = ("device", "precision", "attention", "offload", "channels_last", "compile", "vae_tiling")


class SamplingParams(EngineParams):
    """How a picture is sampled from a base; engines add their own parameters in subclasses."""

    renamed: ClassVar[Mapping[str, str]] = {
        "likeness": "face_guidance_scale",
        "strength": "denoising_strength",
        "start": "init_image",
    }

    sampler: str = Field(default="", description="Scheduler; empty: the base's own.")
    steps: int = Field(default=30, ge=1, le=200, description="Denoising steps.")
    guidance: float = Field(default=7.0, ge=0, le=30, description="Classifier-free guidance scale.")
    fast: str = Field(
        default="", description="Few-step mode (configs/fast), such as lcm or hyper: sampler, steps and LoRA."
    )
    face_guidance_scale: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Shift per step up the gradient of face similarity, per unit of noise; 0.1 is much.",
    )
    init_image: Picture | None = Field(default=None, description="Picture to start from instead of noise (img2img).")
    mask: Picture | None = Field(default=None, description="White where the initial image may change (inpainting).")
    denoising_strength: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the denoising an initial image or a template's face goes through.",
    )
    controls: Mapping[str, Picture] = Field(
        default={}, description="ControlNet images by type: openpose, depth, canny."
    )
    control_scales: Mapping[str, float] = Field(
        default={}, description="Conditioning scale of each ControlNet, 0 to 2."
    )
    controlnet_openpose: str = Field(default="", description="A ControlNet folder, file or pack for openpose.")
    controlnet_depth: str = Field(default="", description="A ControlNet folder, file or pack for depth.")
    controlnet_canny: str = Field(default="", description="A ControlNet folder, file or pack for canny.")
    lora: tuple[WeightedFile, ...] = Field(default=(), description="LoRA to add, FILE or FILE:SCALE; may be repeated.")
    vae: File = Field(default="", description="VAE folder or file that replaces the base's own.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(default="auto", description="Precision of the weights.")
    attention: Literal["auto", "sdpa", "xformers", "flash"] = Field(
        default="auto", description="Attention implementation."
    )
    offload: Literal["none", "model", "group", "sequential"] = Field(
        default="none", description="Weights kept off the accelerator until needed, from fastest to smallest."
    )
    channels_last: bool = Field(default=True, description="Channels-last memory layout.")
    compile: bool = Field(default=False, description="torch.compile the UNet: a minute or more at the first picture.")
    vae_tiling: bool = Field(default=False, description="Decode large pictures in tiles, in little memory.")

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        if name and name not in SAMPLERS:
            raise ValueError(f"one of {', '.join(SAMPLERS)}")
        return name

    @field_validator("device")
    @classmethod
    def _known_device(cls, name: str) -> str:
        if name.split(":")[0] not in ("auto", "cpu", "cuda", "mps"):
            raise ValueError("auto, cpu, cuda, cuda:N or mps")
        return name

    @field_validator("lora", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return ((given,) if given else ()) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _mask_has_an_image(self) -> SamplingParams:
        if self.mask is not None and self.init_image is None:
            raise EngineError(
                "A mask was given without an initial image.", "Name the image too, or leave the mask out."
            )
        return self

    @property
    def setup(self) -> Setup:
        return Setup(**{name: getattr(self, name) for name in RUNTIME})
