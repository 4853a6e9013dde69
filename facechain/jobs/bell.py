"""Tells a free worker, in whatever process, that there is work: messages kept by huey in the same database."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facechain import disk
from facechain.jobs.records import BUSY_SECONDS


class Bell:
    """Messages say nothing but "one more": a lost one is rung again, one too many finds no job."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder, self._path = folder, path
        self._serve: Callable[[], None] = lambda: None

    def ring(self) -> None:
        huey, step = self._opened
        huey.enqueue(step.s())

    def answer(self, serve: Callable[[], None], waiting: int) -> bool:
        """Takes a message, if there is one, and calls `serve`. `waiting` is how many jobs there should be one for."""
        huey, _ = self._opened
        if (task := huey.dequeue()) is None:
            if not waiting:
                return False
            self.ring()  # whoever submitted the job, or took the message, was killed
            task = huey.dequeue()
        self._serve = serve
        if task is not None:
            huey.execute(task)
        return True

    @functools.cached_property
    def _opened(self) -> tuple[Any, Any]:
        """The queue, and the one task in it."""
        from huey import SqliteHuey
        from huey.serializer import Serializer

        class Plain(Serializer):
            """JSON: nothing in a database file should be able to run code, as a pickle would."""

            def _serialize(self, data: Any) -> bytes:
                return json.dumps(data).encode()

            def _deserialize(self, data: bytes) -> Any:
                from huey.registry import Message

                return Message(*json.loads(bytes(data)))

        with disk.errors(self._folder, "FACECHAIN_WORKSPACE"):
            self._folder.mkdir(parents=True, exist_ok=True)
        huey = SqliteHuey(
            "jobs",
            filename=str(self._path),
            journal_mode=None,
            timeout=BUSY_SECONDS,
            results=False,
            serializer=Plain(),
        )
        return huey, huey.task(name="step")(lambda: self._serve())
