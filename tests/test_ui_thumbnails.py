"""Thumbnails are made once each, by a pool of their own that refuses what is too much."""

import threading

import numpy as np
import pytest
from PIL import Image

from facechain.errors import Busy
from facechain.ui import thumbnails
from facechain.ui.thumbnails import KEPT_S, Thumbnails


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(path)
    return path


def test_requests_for_the_same_thumbnail_share_one_decoding(picture, monkeypatch):
    gate, decoded, read = threading.Event(), [], thumbnails.read_reduced

    def counted(path, least_px):
        gate.wait(10)
        decoded.append(path)
        return read(path, least_px)

    monkeypatch.setattr(thumbnails, "read_reduced", counted)
    small = Thumbnails(waiting=1)
    asked = [small.of(picture, 160) for _ in range(60)]
    gate.set()
    asked.append(small.of(picture, 160))
    assert len({future.result() for future in asked}) == 1
    assert decoded == [picture]
    Image.new("RGB", (50, 50)).save(picture)  # another picture in its place
    assert small.of(picture, 160).result() != asked[0].result()


def test_what_is_too_much_is_refused_until_there_is_room_again():
    gate, small = threading.Event(), Thumbnails(threads=1, waiting=2)
    asked = [small.once(key, lambda: bytes(gate.wait(10))) for key in "ab"]
    with pytest.raises(Busy):
        small.once("c", bytes)
    assert small.once("a", bytes) is asked[0]
    gate.set()
    for future in asked:
        future.result()
    small._pool.shutdown()  # until it has counted them
    assert small._pending == 0


def test_a_failure_is_not_kept():
    small = Thumbnails(threads=1)
    with pytest.raises(ZeroDivisionError):
        small.once("a", lambda: bytes(1 // 0)).result()
    small.once("b", bytes).result()  # after the first has been put away
    assert small.once("a", lambda: b"well").result() == b"well"


def test_only_so_many_are_kept_and_none_that_nobody_asks_for(monkeypatch):
    now = 0.0
    monkeypatch.setattr(thumbnails.time, "monotonic", lambda: now)
    small = Thumbnails(threads=1, kept=2)
    for key in "abca":
        small.once(key, key.encode).result()
    assert list(small._made) == ["c", "a"]
    now = KEPT_S
    small.once("d", bytes)
    assert list(small._made) == ["d"]
