"""The low-rank layers in training, by peft, and their moving average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from facechain.engines.lora.settings import TARGETS, TEXT_TARGETS, TrainSettings

NAME = "default"


class Adapters:
    """Fresh layers in a pipeline whose own weights are frozen. They are fp32 whatever the base is."""

    def __init__(self, pipe: Any, settings: TrainSettings) -> None:
        import torch
        from diffusers.training_utils import EMAModel
        from peft import LoraConfig

        self.models = {"unet": pipe.unet}
        if settings.train_text:
            self.models |= {p: m for p in ("text_encoder", "text_encoder_2") if (m := getattr(pipe, p, None))}
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            if (model := getattr(pipe, part, None)) is not None:
                model.requires_grad_(False)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            for part, model in self.models.items():
                config = LoraConfig(
                    r=settings.rank,
                    lora_alpha=settings.alpha,  # type: ignore[arg-type]
                    init_lora_weights="gaussian",
                    target_modules=list(TARGETS[settings.targets] if part == "unet" else TEXT_TARGETS),
                    use_dora=settings.dora,
                )
                model.add_adapter(config, adapter_name=NAME)
        for value in self.named().values():
            value.data = value.data.float()
        self.ema = None
        if settings.ema_decay:
            self.ema = EMAModel(self.named().values(), decay=settings.ema_decay, use_ema_warmup=True)

    def named(self) -> dict[str, Any]:
        """part.path.lora_A.weight … → trainable parameter."""
        return {
            f"{part}.{name.replace(f'.{NAME}', '')}": value
            for part, model in self.models.items()
            for name, value in model.named_parameters()
            if value.requires_grad
        }

    def groups(self, settings: TrainSettings) -> list[dict[str, Any]]:
        """Parameters with their learning rates; text encoders have their own."""
        of_unet = [v for k, v in self.named().items() if k.startswith("unet.")]
        of_text = [v for k, v in self.named().items() if not k.startswith("unet.")]
        made = [{"params": of_unet, "lr": settings.learning_rate}]
        return [*made, {"params": of_text, "lr": settings.text_learning_rate}] if of_text else made

    def state(self) -> dict[str, Any]:
        return {name: value.detach().float().cpu().clone() for name, value in self.named().items()}

    def load(self, state: dict[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, value in self.named().items():
                value.copy_(state[name])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the moving average stands in the layers, if there is one."""
        if self.ema is None:
            yield
            return
        before = self.state()
        self.ema.copy_to(list(self.named().values()))
        try:
            yield
        finally:
            self.load(before)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the base is what it was."""
        for model in self.models.values():
            model.disable_adapters()
        try:
            yield
        finally:
            for model in self.models.values():
                model.enable_adapters()
