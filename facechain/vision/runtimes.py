"""How model files become running networks: one place for threads, silence and missing files."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from facechain.errors import PackMissing

Loaded = TypeVar("Loaded")


def threads() -> int:
    """Cores one network may use: FACECHAIN_THREADS, or all this process may run on."""
    asked = os.environ.get("FACECHAIN_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def present(path: Path) -> Path:
    """The same path; raises PackMissing when no file is there."""
    if not path.is_file():
        raise PackMissing(
            f"The model file {path.name} is not in {path.parent}.", f"Run: facechain packs fetch {path.parent.name}"
        )
    return path


def onnx_session(path: Path) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or waiting threads take others' cores
    options.log_severity_level = 3  # old exports warn once a weight
    return onnxruntime.InferenceSession(str(present(path)), options, providers=["CPUExecutionProvider"])


class Spares(Generic[Loaded]):
    """Networks that only one thread at a time may use: lends an idle one, or loads another when all are busy."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._idle: list[Loaded] = []
        self._loading = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[Loaded]:
        try:
            network = self._idle.pop()
        except IndexError:
            with self._loading:
                network = self._load()
        try:
            yield network
        finally:
            self._idle.append(network)


def opencv_quietly(load: Callable[[], Loaded]) -> Loaded:
    """Loads an OpenCV network without its warning about a setting of its own making."""
    import cv2

    cv2.setNumThreads(threads())
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        return load()
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextlib.contextmanager
def _native_chatter_hidden() -> Iterator[None]:
    """LiteRT announces its CPU delegate on the error stream and has no switch for that; exceptions still come."""
    try:
        kept = os.dup(2)
    except OSError:  # no error stream at all
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class LiteModel:
    """A TFLite network with one input; not safe to share between threads."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with _native_chatter_hidden():
            self._interpreter = Interpreter(model_content=content, num_threads=threads())
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def __call__(self, value: Any) -> list[Any]:
        """Outputs in the model's order, copied."""
        self._interpreter.set_tensor(self._input, value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]
