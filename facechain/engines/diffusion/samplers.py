"""Schedulers by name, and fast modes as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.config import build, read_toml
from facechain.errors import EngineError

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddim_trailing": ("DDIMScheduler", {"timestep_spacing": "trailing"}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_trailing": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2m_sde_karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "euler_a_trailing": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler_trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "heun": ("HeunDiscreteScheduler", {}),
    "kdpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
# What a previous scheduler's configuration must not hand on.
_RESET = {
    "use_karras_sigmas": False,
    "algorithm_type": "dpmsolver++",
    "timestep_spacing": "leading",
    "prediction_type": None,
}


def scheduler(name: str, base: Any) -> Any:
    """A new scheduler with the noise schedule of the `base` one. Raises EngineError for unknown names."""
    import diffusers

    if name not in SAMPLERS:
        raise EngineError(f"There is no sampler {name!r}.", f"Known: {', '.join(SAMPLERS)}.")
    cls, chosen = SAMPLERS[name]
    kept = {k: v for k, v in base.config.items() if not k.startswith("_")}
    reset = {k: v for k, v in _RESET.items() if v is not None and k in kept}
    if kept.get("rescale_betas_zero_snr"):  # such a base begins in noise alone, where leading steps never are
        reset["timestep_spacing"] = "trailing"
    return getattr(diffusers, cls).from_config({**kept, **reset, **chosen})


@dataclass(frozen=True, kw_only=True)
class FastMode:
    """Few steps through distilled weights; see configs/fast/. `lora_*` are "pack id/file", empty where none exists."""

    id: str
    title: str
    licence: str
    sampler: str
    steps: int
    guidance: float
    lora_sd15: str = ""
    lora_sdxl: str = ""
    distilled_base: bool = False  # no weights to add: the base itself must be distilled

    def lora(self, family: str) -> str:
        """Raises EngineError when there are none for this family of bases."""
        found = {"sd15": self.lora_sd15, "sdxl": self.lora_sdxl}[family]
        if not found and not self.distilled_base:
            raise EngineError(f"{self.title} has no weights for {family}.", "Choose another fast mode or base.")
        return found


def read_fast(folder: Path) -> dict[str, FastMode]:
    """Fast modes by id, from a folder of TOML files."""
    modes = {}
    for path in sorted(folder.glob("*.toml")):
        mode = build(FastMode, {**read_toml(path), "id": path.stem}, path.name)
        if mode.sampler not in SAMPLERS:
            raise EngineError(f"{path.name} names the sampler {mode.sampler!r}.", f"Known: {', '.join(SAMPLERS)}.")
        modes[mode.id] = mode
    return modes
