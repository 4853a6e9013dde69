"""Looking through an album: as good as looking at whole photos, in order, and stoppable."""

import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from facechain.photos.ahead import in_order
from facechain.photos.album import Seen, look
from facechain.photos.read import read, read_reduced
from facechain.types import Reason, Rejection
from facechain.vision.readers import READERS


@pytest.fixture(scope="module")
def reader(models):
    return READERS["yunet_sface"](lambda pack, file: models / pack / file)


def test_reduced_photos_say_by_how_much(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (2400, 1600), "teal").save(path)
    photo, reduction = read_reduced(path, 800)
    assert photo.pixels.shape[:2] == (800, 1200)
    assert reduction == 2
    assert photo.id == read(path).id
    whole, reduction = read_reduced(path, 1300)
    assert (whole.pixels.shape[:2], reduction) == ((1600, 2400), 1)


def test_large_photos_give_the_faces_of_whole_ones(models, reader, tmp_path):
    pixels = read(models / "demo-photos" / "obama2.jpg").pixels
    path = tmp_path / "large.jpg"
    large = cv2.resize(pixels, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC)
    Image.fromarray(large).save(path, quality=92)
    (seen,) = look([path], reader)
    (whole,) = reader.read(read(path).pixels)
    assert isinstance(seen, Seen)
    (face,) = seen.faces
    assert np.abs(face.box_px - whole.box_px).max() < 0.05 * whole.width_px
    assert float(face.embedding.vector @ whole.embedding.vector) > 0.97


def test_small_faces_are_looked_for_in_the_whole_photo(models, reader):
    (seen,) = look([models / "solvay" / "solvay_conference_1927.jpg"], reader)
    assert isinstance(seen, Seen)
    assert len(seen.faces) == 29


def test_every_photo_comes_out_in_its_place(models, reader, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    good = models / "astronaut" / "astronaut.png"
    first, second, third = look([good, broken, good], reader)
    assert isinstance(second, Rejection)
    assert second.reason is Reason.UNREADABLE
    assert isinstance(first, Seen)
    assert isinstance(third, Seen)
    assert first.photo_id == third.photo_id


def test_only_a_few_are_begun_ahead():
    begun = []

    def work(number):
        begun.append(number)
        return number

    results = in_order(work, range(100), threads=2, ahead=3)
    assert next(results) == 0
    assert len(begun) <= 4
    results.close()
    assert threading.active_count() < 50
    assert len(begun) <= 4


def test_errors_come_out_in_their_place():
    results = in_order(lambda n: 1 // n, [1, 0], threads=2, ahead=3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
