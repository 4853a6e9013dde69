"""Bases and ControlNets, opened once per process whatever the engines and users, within the memory of the device."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facechain.engines.diffusion.base import BaseRef, load
from facechain.engines.diffusion.controls import open_net
from facechain.engines.diffusion.setup import device_of
from facechain.errors import EngineError

_SHARE = 0.8  # of the device's memory; activations and libraries need the rest


class ModelCache:
    """Least recently used models go first when the next one would not fit; a model in use is never dropped."""

    def __init__(self, budget_bytes: Callable[[str], int] | None = None) -> None:
        """`budget_bytes` gives how much the models on a device may take together; None: a share of its memory."""
        self._budget = budget_bytes or device_bytes
        self._opened: OrderedDict[Hashable, tuple[Any, int, str]] = OrderedDict()  # model, bytes, device
        self._lock = threading.RLock()

    def pipeline(self, base: BaseRef) -> Any:
        """The diffusers pipeline of a base in a setup. Raises EngineError when it cannot be opened."""
        return self._get(base, lambda: load(base), file_bytes(base.path), device_of(base.setup))

    def controlnet(self, path: Path, pipe: Any) -> Any:
        """A ControlNet for the UNet of `pipe`, on its device. Raises EngineError when it is for another family."""
        unet, device = pipe.unet, pipe._execution_device
        key = ("controlnet", path, unet.config.cross_attention_dim, str(device), unet.dtype)
        return self._get(key, lambda: open_net(path, unet).to(device), file_bytes(path), device.type)

    def clear(self) -> None:
        """Frees everything that is not in use, such as before a training."""
        with self._lock:
            self._evict(lambda: True)

    @property
    def held_bytes(self) -> int:
        with self._lock:
            return sum(size for _, size, _ in self._opened.values())

    def _get(self, key: Hashable, open_model: Callable[[], Any], estimate: int, device: str) -> Any:
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key][0]
            budget = self._budget(device)
            self._evict(lambda: self._on(device) + estimate > budget, device)
            model = open_model()
            self._opened[key] = (model, model_bytes(model), device)
            return model

    def _on(self, device: str) -> int:
        return sum(size for _, size, where in self._opened.values() if where == device)

    def _evict(self, needed: Callable[[], bool], device: str = "") -> None:
        freed = False
        for key, (model, _, where) in list(self._opened.items()):
            if not needed():
                break
            if (device and where != device) or in_use(model):
                continue
            del self._opened[key]
            freed = True
        if freed:
            _return_memory()


def device_bytes(device: str) -> int:
    """What models may take on a device, in bytes."""
    import torch

    if device.startswith("cuda"):
        return int(_SHARE * torch.cuda.get_device_properties(torch.device(device)).total_memory)
    return int(_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def file_bytes(path: Path) -> int:
    """Of a model's weights on disk: an estimate of what it will take."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def model_bytes(model: Any) -> int:
    """Parameters and buffers of a pipeline or a module."""
    modules = list(model.components.values()) if hasattr(model, "components") else [model]
    tensors = (t for m in modules if hasattr(m, "parameters") for t in (*m.parameters(), *m.buffers()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _return_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# ── one session at a time changes a pipeline ─────────────────────────────────────────────────────


class _Turn:
    def __init__(self) -> None:
        self.lock, self.owner = threading.Lock(), 0


_TURNS: weakref.WeakKeyDictionary[Any, _Turn] = weakref.WeakKeyDictionary()
_TURNS_LOCK = threading.Lock()


def in_use(pipe: Any) -> bool:
    with _TURNS_LOCK:
        return pipe in _TURNS and _TURNS[pipe].lock.locked()


@contextmanager
def exclusive(pipe: Any) -> Iterator[None]:
    """No other session changes this pipeline until the block ends; other threads wait for their turn.

    Raises EngineError when this thread holds it already.
    """
    with _TURNS_LOCK:
        turn = _TURNS.setdefault(pipe, _Turn())
    me = threading.get_ident()
    if turn.owner == me:
        raise EngineError("A session on this base is still open here.", "Close it before the next one begins.")
    with turn.lock:
        turn.owner = me
        try:
            yield
        finally:
            turn.owner = 0
