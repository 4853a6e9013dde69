"""Precision, memory and speed of a pipeline, fitted to this machine. What cannot be had falls back and says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from facechain.errors import EngineError

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ATTENTIONS = ("auto", "sdpa", "xformers", "flash")
OFFLOADS = ("none", "model", "group", "sequential")  # from fastest to smallest


@dataclass(frozen=True, kw_only=True)
class Setup:
    device: str = "auto"
    precision: str = "auto"
    attention: str = "auto"
    offload: str = "none"
    channels_last: bool = True
    compile: bool = False  # a minute or more at the first picture: for servers
    vae_tiling: bool = False  # large pictures in little memory

    def __post_init__(self) -> None:
        tables = {"device": DEVICES, "precision": PRECISIONS, "attention": ATTENTIONS, "offload": OFFLOADS}
        for name, known in tables.items():
            if getattr(self, name).split(":")[0] not in known:
                raise EngineError(f"{name} is {getattr(self, name)!r}.", f"Known: {', '.join(known)}.")


def device_of(setup: Setup) -> str:
    import torch

    if setup.device != "auto":
        return setup.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def precision_of(setup: Setup) -> Any:
    """A torch dtype. CPUs without matrix units are slower in half precision than in full, so they get fp32."""
    import torch

    on_cpu = device_of(setup) == "cpu"
    if setup.precision == "auto":
        return torch.float32 if on_cpu else torch.float16
    if setup.precision == "fp16" and on_cpu:
        log.warning("fp16 is not for the CPU: painting in fp32.")
        return torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setup.precision]


def fit(pipe: Any, setup: Setup) -> None:
    """Moves the pipeline to its device and switches on what the setup asks for."""
    import torch

    device = device_of(setup)
    if setup.channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
        if pipe.vae is not None:
            pipe.vae.to(memory_format=torch.channels_last)
    if setup.vae_tiling and pipe.vae is not None:
        pipe.vae.enable_tiling()
        pipe.vae.enable_slicing()
    _offload(pipe, setup.offload, device)
    if setup.attention == "xformers":
        _xformers(pipe)
    if setup.compile:
        pipe.unet.compile_repeated_blocks()
    pipe.set_progress_bar_config(disable=True)


def _offload(pipe: Any, level: str, device: str) -> None:
    import torch

    if level in ("model", "sequential") and device == "cpu":
        log.warning("Offloading %s needs an accelerator: everything stays in memory.", level)
        level = "none"
    if level == "none":
        pipe.to(device)
    elif level == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif level == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.enable_group_offload(
            onload_device=torch.device(device), offload_type="leaf_level", use_stream=device.startswith("cuda")
        )


def _xformers(pipe: Any) -> None:
    """Built for one torch on one GPU, so it is tried and not trusted."""
    try:
        pipe.enable_xformers_memory_efficient_attention()
    except Exception as error:
        log.warning("xformers does not run here (%s): PyTorch's own attention is used.", type(error).__name__)
        pipe.unet.set_default_attn_processor()


@contextmanager
def attention(setup: Setup) -> Iterator[None]:
    """Inside, PyTorch tries flash attention first when asked to; shapes it cannot do take the next kernel."""
    if setup.attention != "flash":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    order = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        yield
