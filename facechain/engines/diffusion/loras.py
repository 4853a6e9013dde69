"""Low-rank weights put into a pipeline for a sitting, and taken out bit for bit.

All formats (`lora_files.py`) become a change of a layer's weight, summed in fp32 and added once, so painting costs
nothing extra.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.lora_files import Layer, read_lora
from facechain.engines.diffusion.lora_maths import change
from facechain.errors import EngineError


@dataclass(frozen=True, kw_only=True)
class LoraRef:
    """A file, and how much of its change is added. Raises EngineError for a scale that is no finite number."""

    path: Path
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise EngineError(
                f"The strength of {self.path.name} is {self.scale}.", "Give a number, usually from 0 to 1."
            )


def named_loras(value: Any) -> tuple[LoraRef, ...]:
    """The setting `lora`: FILE or FILE:0.8, or a list of them. Raises EngineError for a file that is not there."""
    several = value if isinstance(value, (list, tuple)) else [value] if value else []
    return tuple(_named(str(text)) for text in several)


def _named(text: str) -> LoraRef:
    """A file's own name, or its drive's, may hold colons too, so a file of the whole name comes first."""
    file, _, scale = text.rpartition(":")
    if not Path(text).is_file() and Path(file).is_file():
        try:
            return LoraRef(path=Path(file), scale=float(scale))
        except ValueError:
            raise EngineError(
                f"The strength of {Path(file).name} is {scale!r}.", "Write for example FILE:0.8"
            ) from None
    if not Path(text).is_file():
        raise EngineError(f"There is no file {text}.", "Give a .safetensors file; FILE:0.8 for less of it.")
    return LoraRef(path=Path(text))


@contextmanager
def put_in(pipe: Any, loras: Sequence[LoraRef]) -> Iterator[None]:
    """Inside, the pipeline's weights are changed; afterwards, also after an exception, they are what they were.

    Raises EngineError for a file that does not fit, and where the changed weights exceed the pipeline's precision.
    """
    import torch

    changes: dict[Layer, list[tuple[Mapping[str, Any], float]]] = {}
    for lora in loras:
        if lora.scale:
            for layer, roles in read_lora(lora.path, pipe).items():
                changes.setdefault(layer, []).append((roles, lora.scale))
    kept: list[tuple[Any, Any]] = []
    try:
        with torch.no_grad():
            for (part, path), several in changes.items():
                module = getattr(pipe, part).get_submodule(path)
                if module.weight.device.type == "meta":
                    raise EngineError("The base is offloaded layer by layer.", "Put weights in before offloading.")
                for tensor, total in _totals(module, several):
                    kept.append((tensor, tensor.detach().clone()))
                    tensor.copy_((tensor.to(torch.float32) + total).to(tensor.dtype))
                    if not tensor.isfinite().all():
                        names = ", ".join(f"{lora.path.name}:{lora.scale:g}" for lora in loras if lora.scale)
                        raise EngineError(
                            f"With {names} the weights of {part}.{path} are too large for {tensor.dtype}.",
                            "Take less of them.",
                        )
        yield
    finally:
        with torch.no_grad():
            for tensor, before in reversed(kept):
                tensor.copy_(before)


def _totals(module: Any, several: Sequence[tuple[Mapping[str, Any], float]]) -> Iterator[tuple[Any, Any]]:
    """(the layer's weight or bias, what is added to it in fp32)"""
    import torch

    if weights := [(roles, scale) for roles, scale in several if roles.keys() - {"alpha", "diff_b"}]:
        yield module.weight, sum(scale * change(roles, module.weight) for roles, scale in weights)
    if biases := [(roles["diff_b"], scale) for roles, scale in several if "diff_b" in roles]:
        yield module.bias, sum(scale * diff.to(module.bias.device, torch.float32) for diff, scale in biases)
