"""Memory a training can do without, to the last bit the same.

PyTorch keeps what goes into a convolution until the backward pass, though only the weight's gradient needs it: frozen
ones forget it. Published bases come in 16 bit. Where a frozen weight loses nothing by it, it stays in 16 bit and is
widened for the moment it is used, forwards and backwards; the VAE and text encoders that are done with wait in 16 bit
too, away from the accelerator.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from facechain.engines.lora import text
from facechain.engines.lora.settings import TrainSettings


def forget_inputs(unet: Any) -> None:
    """Frozen convolutions keep only their weight for the backward pass."""
    from torch import nn

    for module in unet.modules():
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not module.weight.requires_grad:
            module.forward = functools.partial(_convolution, module)  # type: ignore[method-assign, assignment]


def narrow(unet: Any) -> None:
    """Frozen linear and convolution weights that fit into 16 bit stay there. The first layer tells the UNet's dtype."""
    import torch
    from torch import nn

    for module in unet.modules():
        plain = type(module) is nn.Linear or (type(module) is nn.Conv2d and module.padding_mode == "zeros")
        if not plain or module is unet.conv_in or module.weight.requires_grad or module.weight.dtype != torch.float32:
            continue
        if (short := _short(module.weight.data)) is not None:
            module.weight.data = short
            widened = functools.partial(_linear if type(module) is nn.Linear else _convolution, module)
            module.forward = widened  # type: ignore[method-assign, assignment]


def park(pipe: Any, settings: TrainSettings) -> None:
    """What is not trained and not asked in a step goes to the CPU, in as few bits as it came in."""
    for model in _idle(pipe, settings):
        model.to("cpu")
        for value in (*model.parameters(), *model.buffers()):
            if (short := _short(value.data)) is not None:
                value.data = short


@contextmanager
def at_work(pipe: Any, device: Any, settings: TrainSettings) -> Iterator[None]:
    """Inside, the whole pipeline can paint."""
    for model in _idle(pipe, settings):
        model.to(device, pipe.unet.dtype)
    try:
        yield
    finally:
        park(pipe, settings)


def _idle(pipe: Any, settings: TrainSettings) -> list[Any]:
    """The VAE, text encoders that are not trained, and the safety checker where the base has one."""
    encoders = [] if settings.train_text else [encoder for _, _, encoder in text.encoders(pipe)]
    return [model for model in (pipe.vae, *encoders, getattr(pipe, "safety_checker", None)) if model is not None]


def _short(value: Any) -> Any | None:
    """In 16 bit, if that is the same number everywhere."""
    import torch

    if value.dtype != torch.float32:
        return None
    for dtype in (torch.float16, torch.bfloat16):
        short = value.to(dtype)
        if torch.equal(short.to(torch.float32), value):
            return short
    return None


def _linear(module: Any, x: Any) -> Any:
    return _widening()[0].apply(x, module.weight, module.bias)


def _convolution(module: Any, x: Any) -> Any:
    how = (module.stride, module.padding, module.dilation, module.groups)
    return _widening()[1].apply(x, module.weight, module.bias, how)


@functools.cache
def _widening() -> tuple[Any, Any]:
    """Autograd keeps the short weight for the backward pass, not the wide one made for the forward pass."""
    import torch
    from torch.nn import functional, grad

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
            ctx.save_for_backward(weight)
            return functional.linear(x, weight.to(x.dtype), bias)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (weight,) = ctx.saved_tensors
            return grads[0] @ weight.to(grads[0].dtype), None, None

    class Convolution(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, how: Any) -> Any:
            ctx.save_for_backward(weight)
            ctx.shape, ctx.how = x.shape, how
            # Under autocast PyTorch itself brings the two together.
            weight = weight if torch.is_autocast_enabled(x.device.type) else weight.to(x.dtype)
            return functional.conv2d(x, weight, bias, *how)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (weight,) = ctx.saved_tensors
            return grad.conv2d_input(ctx.shape, weight.to(grads[0].dtype), grads[0], *ctx.how), None, None, None

    return Linear, Convolution
