"""SFace (Zhong et al. 2021) in torch, so that what it sees can be learned from.

It conditions the family and may teach it; the judge of portraits is another recogniser.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CHIP_PX = 112
# Eyes, nose tip and mouth corners in a chip (InsightFace's template).
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_LOOKED_AT = (2, 6, 12)  # layers whose features are compared: of 112, 56 and 14 pixels a side


class Sface(nn.Module):
    """Faces (N, 3, S, S) in -1…1 with their points → features and unit vectors (N, 128). Built from the ONNX file."""

    def __init__(self, onnx_file: Path) -> None:
        super().__init__()
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(onnx_file)).graph
        values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
        self._shift, self._scale = (float(values[name]) for name in ("scalar_op1", "scalar_op2"))
        layers: list[nn.Module] = []
        for node in graph.node:
            given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            parts = [values[name] for name in node.input[1:] if name in values]
            flat = any(isinstance(layer, nn.Flatten) for layer in layers)
            if made := _layer(node.op_type, given, parts, flat):
                layers.append(made)
        self.layers = nn.ModuleList(layers).eval().requires_grad_(False)

    def forward(self, pictures: Tensor, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """`points` (N, 5, 2) in picture widths."""
        x = (chips(pictures, points) * 127.5 + 127.5 - self._shift) * self._scale
        seen, activations = [], 0
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.PReLU):
                activations += 1
                if activations in _LOOKED_AT:
                    seen.append(x)
        return seen, functional.normalize(x.float(), dim=1)


def _layer(kind: str, given: dict[str, Any], parts: list[Tensor], flat: bool) -> nn.Module | None:
    """One node of the graph; None for those that do nothing here. `flat`: after the pictures became rows."""
    made: nn.Module | None = None
    if kind == "Conv":
        out, each, side, _ = parts[0].shape
        groups = given["group"]
        made = nn.Conv2d(each * groups, out, side, given["strides"][0], given["pads"][0], groups=groups, bias=False)
        _fill(made, weight=parts[0])
    elif kind == "BatchNormalization":
        made = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(len(parts[0]), eps=given["epsilon"])
        names = ("weight", "bias", "running_mean", "running_var")
        _fill(made, **dict(zip(names, parts, strict=True)))
    elif kind == "PRelu":
        made = nn.PReLU(parts[0].numel())
        _fill(made, weight=parts[0].flatten())
    elif kind == "Gemm":
        out, into = parts[0].shape
        made = nn.Linear(into, out)
        _fill(made, weight=parts[0], bias=parts[1])
    elif kind == "Flatten":
        made = nn.Flatten()
    return made


def _fill(layer: nn.Module, **values: Tensor) -> None:
    layer.load_state_dict(values, strict=False)


def chips(pictures: Tensor, points: Tensor) -> Tensor:
    """The faces moved onto the template by the least-squares similarity (Umeyama 1991), (N, 3, 112, 112)."""
    target = (torch.tensor(_TEMPLATE, dtype=torch.float32, device=points.device) + 0.5) / CHIP_PX * 2 - 1
    # affine_grid's -1…1 goes from edge to edge; the template counts from the middle of the first pixel.
    source = points.float() * 2 - 1
    a, b = torch.view_as_complex(target.contiguous()), torch.view_as_complex(source.contiguous())
    a_mean, b_mean = a.mean(), b.mean(-1, keepdim=True)
    moved = (b - b_mean).conj() * (a - a_mean)
    factor = (b - b_mean).abs().square().sum(-1) / moved.sum(-1)  # back from chip to picture, to look the grid up
    shift = b_mean[:, 0] - factor * a_mean
    rows = torch.stack(
        [
            torch.stack([factor.real, -factor.imag, shift.real], -1),
            torch.stack([factor.imag, factor.real, shift.imag], -1),
        ],
        1,
    )
    grid = functional.affine_grid(rows, [len(pictures), 3, CHIP_PX, CHIP_PX], align_corners=False)
    return functional.grid_sample(pictures, grid.to(pictures.dtype), align_corners=False, padding_mode="zeros")


def unlike(sface: Sface, seen: Tensor, wanted: Tensor, points: Tensor) -> Tensor:
    """How differently SFace sees two rows of faces: 1 - cosine, and its features' relative difference."""
    with torch.no_grad():
        features, vectors = sface(wanted, points)
    its, its_vectors = sface(seen, points)
    apart = (1 - (its_vectors * vectors).sum(1)).mean()
    for mine, theirs in zip(its, features, strict=True):
        apart = apart + (mine - theirs).abs().float().mean() / theirs.abs().float().mean()
    return apart
