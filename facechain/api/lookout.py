"""Watched jobs: one look at the records now and then serves everybody who watches, however many they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import TypeAlias

from fastapi.concurrency import run_in_threadpool

from facechain.types import Job

LOOK_S = 0.5

Found: TypeAlias = Mapping[str, Job]


class Lookout:
    """`find` gives those jobs of these ids that there are."""

    def __init__(self, find: Callable[[Collection[str]], Found]) -> None:
        self._find = find
        self._watched: Counter[str] = Counter()
        self._next: asyncio.Task[tuple[Collection[str], Found]] | None = None

    @contextlib.contextmanager
    def watching(self, id: str) -> Iterator[Callable[[], Awaitable[Job | None]]]:
        """A call that waits for the next look, and gives the job as it is then; None when there is none any more."""

        async def look() -> Job | None:
            while True:
                asked, found = await self._look()
                if id in asked:  # not when we came while that look was under way
                    return found.get(id)

        self._watched[id] += 1
        try:
            yield look
        finally:
            self._watched[id] -= 1
            if not self._watched[id]:
                del self._watched[id]

    async def _look(self) -> tuple[Collection[str], Found]:
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._all())
        return await asyncio.shield(self._next)  # who stops watching does not stop it for the others

    async def _all(self) -> tuple[Collection[str], Found]:
        await asyncio.sleep(LOOK_S)
        ids = frozenset(self._watched)
        return ids, await run_in_threadpool(self._find, ids)
