"""Face fusion after painting: the person's own face, from a photo, over the one an engine painted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from facechain.errors import EngineError, TemplateError
from facechain.protocols import Engine, Identity
from facechain.types import Canvas, Face, Pixels, Shot, Style

OPTION = "fuse"  # as people write it: 1, or less to keep more of what was painted
ENGINE = "template"  # the engine it is done with


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    engine: Engine
    identities: tuple[Identity, ...]  # by it, of the people in order
    strength: float  # 0…1

    def over(
        self, painted: Pixels, shot: Shot, style: Style, faces: tuple[Face, ...], slots: Sequence[int]
    ) -> tuple[Pixels, tuple[int, ...]]:
        """The picture with each person's face fused in, and the faces, left to right, that could be.

        A face that was painted so that nobody could read it stays as it is: the judge will say what it is worth.
        """
        shot, done = replace(shot, options={"identity_scale": self.strength}), []
        for identity, slot in zip(self.identities, slots, strict=True):
            with self.engine.sitting(identity, style) as brush:
                try:
                    painted = brush(shot, Canvas(pixels=painted, faces=faces, slot=slot))
                except TemplateError:
                    continue
                done.append(slot)
        return painted, tuple(done)


def asked(options: Mapping[str, Any], engine: str) -> float:
    """How strongly to fuse, 0: not at all. Raises EngineError for no share, and for the engine that fuses anyway."""
    given = options.get(OPTION, 0)
    try:
        strength = float(given)
    except (TypeError, ValueError):
        raise EngineError(f"{OPTION} is {given!r}.", "Give 1, or a number from 0 to 1.") from None
    if not 0 <= strength <= 1:
        raise EngineError(f"{OPTION} is {strength:g}.", "Give 1, or a number from 0 to 1.")
    if strength and engine == ENGINE:
        raise EngineError("The template engine fuses the face already.", f"Leave {OPTION} out, or set identity_scale.")
    return strength
