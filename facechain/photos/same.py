"""When two faces are the same person's, and when two photos are the same picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.errors import FaceChainError
from facechain.photos.crop import Framing, cut, place
from facechain.types import Embedding, Face, Pixels


class Cosines(NamedTuple):
    same: float  # at or above: the same person
    different: float  # below: surely someone else; between the two nobody can tell
    picture: float = 0.91  # at or above: perhaps one picture


# For sorting a person's own album, never for judging portraits: those verdicts rest on their own calibration.
SAME_PERSON: Mapping[str, Cosines] = {
    # OpenCV publishes 0.363 for SFace (LFW). On 61 photos of 7 people (285 / 1,545 pairs) the same person never fell
    # below 0.557 and two people never rose above 0.310.
    "sface_2021dec": Cosines(0.363, 0.31),
    # The same 61 photos: 0.488 and 0.237.
    "w600k_mbf": Cosines(0.35, 0.24),
    # dlib's distance of 0.6 at its usual length of 1.44. On 28 of those photos: 0.928 and 0.889. `picture` is a guess.
    "dlib_resnet_v1": Cosines(0.914, 0.89, 0.985),
}
# ArcFace-like embeddings of other packs: the cautious middle of those above.
_OTHERS = Cosines(0.40, 0.25)


def cosines(recogniser: str) -> Cosines:
    return SAME_PERSON.get(recogniser, _OTHERS)


def units(embeddings: list[Embedding]) -> NDArray[np.float32]:
    """(N, D) rows of length 1. Raises FaceChainError when they come from different recognisers."""
    names = {embedding.recogniser for embedding in embeddings}
    if len(names) > 1:
        raise FaceChainError(f"Faces of {' and '.join(sorted(names))} cannot be compared.", "Read them all with one.")
    rows = np.stack([embedding.vector for embedding in embeddings]).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def medoid(rows: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """(D,) the direction most rows agree on: the row with the most neighbours at `threshold`, averaged with them.

    Neighbours count by row blocks, so 10,000 faces need no 10,000² matrix.
    """
    best, most = 0, (-1, -1.0)
    for start in range(0, len(rows), 512):
        close = rows[start : start + 512] @ rows.T
        for index, line in enumerate(close):
            near = line >= threshold
            rank = (int(near.sum()), float(line[near].sum()))
            if rank > most:
                best, most = start + index, rank
    centre = rows[rows @ rows[best] >= threshold].mean(0)
    return centre / max(float(np.linalg.norm(centre)), 1e-9)


_STAMP = Framing(face_share=0.7, centre_down=0.5, side_px=64, max_enlarge=100)
# This and `Cosines.picture` must both hold. By SFace, nearly all copies of 10 photos (reduced, cut, recompressed,
# lightened, tilted) agree with the original to 0.92…1.00 and differ in 0…20 % of the bits; the likest different
# photos of one person in 58 reach 0.89.
SAME_PICTURE_BITS = 0.20


def stamp(pixels: Pixels, face: Face) -> NDArray[np.bool_]:
    """(512,) bits that survive re-encoding, resizing and cropping: brighter-than-neighbour of the aligned face."""
    grey = cv2.cvtColor(cut(pixels, place(face, _STAMP)), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(cv2.GaussianBlur(grey, (0, 0), 1.5), (17, 17), interpolation=cv2.INTER_AREA).astype(int)
    return np.concatenate([(np.diff(small, axis=1) > 0)[:16].ravel(), (np.diff(small, axis=0) > 0)[:, :16].ravel()])
