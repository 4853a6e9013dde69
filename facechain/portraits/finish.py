"""Finishers run after painting; the picture before them is kept, so that the judge can score both."""

from __future__ import annotations

from collections.abc import Sequence

from facechain.protocols import Finisher
from facechain.types import Pixels


def finish(painted: Pixels, finishers: Sequence[Finisher]) -> tuple[Pixels, Pixels | None]:
    """The finished picture, and the one before; None when nothing was done."""
    finished = painted
    for finisher in finishers:
        finished = finisher.finish(finished)
    return (finished, painted) if finishers else (painted, None)
