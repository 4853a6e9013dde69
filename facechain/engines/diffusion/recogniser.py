"""A recogniser's own ONNX file in torch, so that what it sees can be painted by: the same numbers, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facechain.errors import EngineError
from facechain.types import Network

CHIP_PX = 112
# Eyes, nose tip and mouth corners in a chip (InsightFace's template).
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


class Recogniser(nn.Module):
    """Faces (N, 3, H, W) in -1…1 with their points → unit vectors (N, D).

    Knows what face networks are made of: SFace (Zhong et al. 2021), MobileFaceNet and ArcFace's residual networks
    (Deng et al. 2019). Raises EngineError for a file with anything else in it.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(network.file)).graph
        self._centre, self._scale = network.centre, network.scale
        self._into, self._out = graph.input[0].name, graph.output[0].name
        for name, value in ((i.name, numpy_helper.to_array(i)) for i in graph.initializer):
            self.register_buffer(_plain(name), torch.from_numpy(value.copy()), persistent=False)
        self._steps: list[tuple[Callable[..., Tensor], list[str], str]] = []
        for node in graph.node:
            if node.op_type not in _OPS:
                raise EngineError(f"{network.file.name} has a {node.op_type} in it.", "Set likeness to 0.")
            given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self._steps.append((_OPS[node.op_type](given), list(node.input), node.output[0]))

    def forward(self, pictures: Tensor, points: Tensor) -> Tensor:
        """`points` (N, 5, 2) in picture widths and heights."""
        return self.see(pictures, points)[1]

    def see(self, pictures: Tensor, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """What its activations were, in their order, and the unit vectors."""
        shown = (chips(pictures.float(), points) * 127.5 + 127.5 - self._centre) / self._scale
        values, activations = {self._into: shown}, []
        for step, names, out in self._steps:
            inputs = [values[name] if name in values else getattr(self, _plain(name)) for name in names if name]
            values[out] = step(*inputs)
            if step is _prelu:
                activations.append(values[out])
        return activations, functional.normalize(values[self._out], dim=1)


def _plain(name: str) -> str:
    """ONNX names are numbers and have dots in them, torch's may not."""
    return "w_" + name.replace(".", "_")


def _conv(given: dict[str, Any]) -> Callable[..., Tensor]:
    pads, stride = given.get("pads", [0, 0, 0, 0]), given.get("strides", [1, 1])

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.conv2d(x, weight, bias, stride, (pads[0], pads[1]), 1, given.get("group", 1))

    return run


def _norm(given: dict[str, Any]) -> Callable[..., Tensor]:
    return lambda x, scale, bias, mean, var: functional.batch_norm(
        x, mean, var, scale, bias, eps=given.get("epsilon", 1e-5)
    )


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return functional.prelu(x, slope.flatten())


def _gemm(given: dict[str, Any]) -> Callable[..., Tensor]:
    return lambda x, weight, bias: functional.linear(x, weight if given.get("transB") else weight.T, bias)


_OPS: dict[str, Callable[[dict[str, Any]], Callable[..., Tensor]]] = {
    "Add": lambda given: torch.add,
    "BatchNormalization": _norm,
    "Conv": _conv,
    "Dropout": lambda given: lambda x, *unused: x,
    "Flatten": lambda given: lambda x: x.flatten(1),
    "Gemm": _gemm,
    "Mul": lambda given: torch.mul,
    "PRelu": lambda given: _prelu,
    "Sub": lambda given: torch.sub,
}


def chips(pictures: Tensor, points: Tensor) -> Tensor:
    """The faces moved onto the template by the least-squares similarity (Umeyama 1991), (N, 3, 112, 112).

    `points` (N, 5, 2) in picture widths and heights.
    """
    height, width = pictures.shape[-2:]
    size = torch.tensor([width, height], dtype=torch.float32, device=pictures.device)
    target = (torch.tensor(_TEMPLATE, dtype=torch.float32, device=pictures.device) + 0.5) / CHIP_PX * 2 - 1
    # affine_grid's -1…1 goes from edge to edge; the template counts from the middle of the first pixel. Turns keep
    # lengths only where both axes have one unit, so the picture is measured in its width.
    source = (points.float() * size / width) * 2 - 1
    a, b = torch.view_as_complex(target.contiguous()), torch.view_as_complex(source.contiguous())
    a_mean, b_mean = a.mean(), b.mean(-1, keepdim=True)
    moved = (b - b_mean).conj() * (a - a_mean)
    factor = (b - b_mean).abs().square().sum(-1) / moved.sum(-1)  # back from chip to picture, to look the grid up
    shift = b_mean[:, 0] - factor * a_mean
    tall = width / height
    rows = torch.stack(
        [
            torch.stack([factor.real, -factor.imag, shift.real], -1),
            torch.stack([factor.imag * tall, factor.real * tall, (shift.imag + 1) * tall - 1], -1),
        ],
        1,
    )
    grid = functional.affine_grid(rows, [len(pictures), 3, CHIP_PX, CHIP_PX], align_corners=False)
    return functional.grid_sample(pictures, grid.to(pictures.dtype), align_corners=False, padding_mode="zeros")
