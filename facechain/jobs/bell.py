"""Tells a free worker, in whatever process, that there is work: messages kept by huey in the same database."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from facechain import disk
from facechain.errors import StoreError
from facechain.jobs.records import BUSY_SECONDS, Database


class Bell:
    """Messages say nothing but "one more": a lost one is rung again, one too many finds no job."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._serve: Callable[[], None] = lambda: None
        self._open: tuple[int, Any, Any] | None = None  # file, queue, and the one task in it

    def ring(self) -> None:
        with contextlib.suppress(StoreError), self._database.checked():
            huey, step = self._opened()
            huey.enqueue(step.s())

    def answer(self, serve: Callable[[], None], waiting: int) -> None:
        """Takes a message, if there is one, and calls `serve`. `waiting` is how many jobs there should be one for.

        Raises StoreError when the disk refuses.
        """
        with self._database.checked():
            huey, _ = self._opened()
            if (task := huey.dequeue()) is None:
                if not waiting:
                    return
                self.ring()  # whoever submitted the job, or took the message, was killed
                task = huey.dequeue()
        self._serve = serve
        if task is not None:
            huey.execute(task)

    def _opened(self) -> tuple[Any, Any]:
        """The queue and its task; opened anew where the file is another one, such as after a repair."""
        with disk.errors(self._database.folder, "FACECHAIN_WORKSPACE"):
            self._database.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._database.there():
                self._database.path.touch(mode=0o600)
            file = self._database.path.stat().st_ino
        if self._open is None or self._open[0] != file:
            self._open = (file, *self._new())
        return self._open[1:]

    def _new(self) -> tuple[Any, Any]:
        from huey import SqliteHuey
        from huey.serializer import Serializer

        class Plain(Serializer):
            """JSON: nothing in a database file should be able to run code, as a pickle would."""

            def _serialize(self, data: Any) -> bytes:
                return json.dumps(data).encode()

            def _deserialize(self, data: bytes) -> Any:
                from huey.registry import Message

                return Message(*json.loads(bytes(data)))

        huey = SqliteHuey(
            "jobs",
            filename=str(self._database.path),
            journal_mode=None,
            timeout=BUSY_SECONDS,
            results=False,
            serializer=Plain(),
        )
        return huey, huey.task(name="step")(lambda: self._serve())
