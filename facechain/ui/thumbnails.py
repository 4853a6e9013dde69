"""Small WebP copies of pictures: each made once, by a few threads of their own.

A page may ask for the same large picture many times at once; decoding it in the threads that answer requests would
leave none for anybody else. Copies are kept in memory only, so that none outlives its picture on disk.
"""

from __future__ import annotations

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from facechain.errors import Busy
from facechain.photos.read import read_reduced
from facechain.types import Pixels

THREADS = 2
MAX_WAITING = 32  # thumbnails begun or waiting to be
MAX_KEPT = 1000  # of some 20 KB
KEPT_S = 600.0  # after the last request, as long as browsers keep them


class Thumbnails:
    def __init__(self, threads: int = THREADS, waiting: int = MAX_WAITING, kept: int = MAX_KEPT) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="thumbnails")
        self._lock = threading.RLock()  # a future that is done calls back at once
        self._made: OrderedDict[Hashable, tuple[Future[bytes], float]] = OrderedDict()  # and when last asked for
        self._pending, self._max_pending, self._max_kept = 0, waiting, kept

    def of(self, path: Path, width_px: int, upright: Callable[[], Pixels] | None = None) -> Future[bytes]:
        """A WebP at most `width_px` wide, of the picture as it is stored or as `upright` gives it.

        Raises Busy when too many are waited for, OSError when there is no file.
        """
        stat = path.stat()
        key = (path, stat.st_mtime_ns, stat.st_size, width_px, upright is None)
        pixels = upright or (lambda: read_reduced(path, width_px)[0].pixels)
        return self.once(key, lambda: webp(Image.fromarray(pixels()), width_px))

    def once(self, key: Hashable, make: Callable[[], bytes]) -> Future[bytes]:
        """What `make` gave for this key or will give. What it raises is not kept. Raises Busy as above."""
        with self._lock:
            if key in self._made:
                future, _ = self._made.pop(key)
            elif self._pending >= self._max_pending:
                raise Busy("The server has too many pictures to make small.", "Try again in a moment.")
            else:
                future = self._pool.submit(make)
                self._pending += 1
                future.add_done_callback(lambda done: self._done(key, done))
            if not future.done() or future.exception() is None:
                self._made[key] = future, time.monotonic()
            self._drop_old()
            return future

    def _done(self, key: Hashable, future: Future[bytes]) -> None:
        with self._lock:
            self._pending -= 1
            if future.exception() is not None:
                self._made.pop(key, None)

    def _drop_old(self) -> None:
        while self._made:
            key, (future, asked) = next(iter(self._made.items()))
            if not future.done() or (len(self._made) <= self._max_kept and time.monotonic() - asked < KEPT_S):
                return
            del self._made[key]


def webp(picture: Image.Image, width_px: int) -> bytes:
    picture = picture.convert("RGB")
    picture.thumbnail((width_px, width_px * 2), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=82, method=2)
    return out.getvalue()
