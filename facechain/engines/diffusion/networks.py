"""Opens a network so that no tensor is missing, left over or of another shape.

It is built without memory, compared with the file by name and shape, and only then given the file's tensors: the
libraries' own readers fill what is missing with random numbers and drop what is left over. Building without memory
holds for this thread alone, so others may open and paint meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from facechain.engines.diffusion.conventions import Convention, Source, same
from facechain.engines.weights import check_finite, read_config, read_tensors, weight_files
from facechain.errors import FaceChainError, PackError, PackMissing

_POSITIONS = re.compile(r"(^|\.)position_ids$")


@dataclass(kw_only=True, eq=False)
class Weights:
    """The tensors of a file or of a folder's shards, and which of them have found their network."""

    path: Path
    tensors: Mapping[str, Any]
    used: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path, files: Sequence[Path]) -> Weights:
        """`path` names them in errors, which are `read_tensors`'."""
        tensors: dict[str, Any] = {}
        for file in files:
            tensors |= read_tensors(file)
        return cls(path=path, tensors=tensors)

    def refuse_surplus(self, title: str, spare: Mapping[str, str]) -> None:
        """Raises PackError for tensors no network took. `spare`: patterns of those known to be of no use, and why."""
        known = re.compile("|".join(spare) or r"(?!)")
        if left := sorted(key for key in self.tensors if key not in self.used and not known.match(key)):
            raise PackError(
                f"{self.path.name} has tensors that have no place in {title}: {listed(left)}.",
                "Download it again, or choose one made for this.",
            )


def open_folder(
    make: Callable[[dict[str, Any]], Any],
    folder: Path,
    title: str,
    conventions: Sequence[Convention] = (same,),
    spare: Mapping[str, str] = MappingProxyType({}),
    stems: Sequence[str] = ("diffusion_pytorch_model",),
) -> Any:
    """The network in a diffusers or transformers folder, on the CPU in the file's precision.

    `make` builds it from its configuration, `stems` are the names its weights may have. Raises PackMissing for what is
    not there, PackError for what does not fit.
    """
    if not (folder / "config.json").is_file():
        raise PackMissing(f"{_sentence(title)} lacks config.json in {folder.name}.", "Fetch its pack or folder again.")
    config = read_config(folder / "config.json")
    net = build(lambda: make(config), title)
    if not (files := next(filter(None, (weight_files(folder, stem) for stem in stems)), ())):
        raise PackMissing(
            f"{_sentence(title)} lacks {stems[0]}.safetensors in {folder.name}.", "Fetch its pack or folder again."
        )
    weights = Weights.read(files[0] if len(files) == 1 else folder, files)
    if not fill(net, weights, conventions, title):
        raise PackError(f"{weights.path.name} holds no tensor of {title}.", "Download it again.")
    weights.refuse_surplus(title, spare)
    return net


def build(make: Callable[[], Any], title: str) -> Any:
    """What `make` makes, without memory for its tensors. Raises PackError when its configuration cannot be."""
    import torch

    with refused(f"The configuration of {title}"), torch.device("meta"):
        return make()


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Whatever the libraries raise over a damaged configuration becomes a PackError that names it."""
    try:
        yield
    except FaceChainError:
        raise
    except Exception as error:  # they let it run into whatever it runs into
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:160].rstrip(".")
        raise PackError(f"{what} is not usable: {reason}.", "Download it again.") from None


def fill(net: Any, weights: Weights, conventions: Sequence[Convention], title: str) -> bool:
    """Gives a built network its tensors, named by whichever convention fits most of them; False when it has none here.

    Raises PackError for tensors that are missing, wrongly shaped, NaN or infinite.
    """
    import torch

    wanted = net.state_dict()
    fitting = max(conventions, key=lambda names: sum(names(key).key in weights.tensors for key in wanted))
    sources = {key: fitting(key) for key in wanted}
    if not any(source.key in weights.tensors for source in sources.values()):
        return False
    if missing := sorted({source.key for source in sources.values() if source.key not in weights.tensors}):
        raise PackError(
            f"{_sentence(title)} lacks tensors: {listed(missing)}.", "Download it again, or choose one made for this."
        )
    given = {key: _shaped(weights.tensors[source.key], source, wanted[key].shape) for key, source in sources.items()}
    if odd := [key for key, tensor in given.items() if tensor.shape != wanted[key].shape]:
        told = (f"{sources[key].key} {_sides(given[key])} instead of {_sides(wanted[key])}" for key in odd)
        raise PackError(
            f"{_sentence(title)} has wrongly shaped tensors: {listed(list(told))}.",
            "Choose one whose configuration is its own.",
        )
    check_finite({sources[key].key: tensor for key, tensor in given.items()}, weights.path)
    net.load_state_dict(given, strict=True, assign=True)
    for name, buffer in list(net.named_buffers()):
        if buffer.is_meta and _POSITIONS.search(name):  # CLIP counts its positions and files need not say so
            owner, _, last = name.rpartition(".")
            counted = torch.arange(buffer.shape[-1]).expand(buffer.shape)
            net.get_submodule(owner).register_buffer(last, counted, persistent=False)
    net.eval()
    weights.used.update(source.key for source in sources.values())
    return True


def _shaped(tensor: Any, source: Source, wanted: Sequence[int]) -> Any:
    if source.third is not None and tensor.dim():
        thirds = tensor.chunk(3)
        tensor = thirds[source.third] if len(thirds) == 3 else tensor
    if source.transposed and tensor.dim() == 2:
        tensor = tensor.T.contiguous()
    if _without_ones(tensor.shape) == _without_ones(wanted):  # a 1 × 1 convolution is a linear layer
        return tensor.reshape(tuple(wanted))
    return tensor


def _without_ones(shape: Sequence[int]) -> list[int]:
    sides = list(shape)
    while len(sides) > 1 and sides[-1] == 1:
        sides.pop()
    return sides


def _sides(tensor: Any) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _sentence(title: str) -> str:
    return title[:1].upper() + title[1:]


def listed(names: Sequence[str]) -> str:
    """The first three and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
