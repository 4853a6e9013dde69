"""What the template engine needs and offers."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from facechain.params import EngineParams
from facechain.protocols import EngineCard


class TemplateParams(EngineParams):
    """What is left open varies a little from picture to picture, so that there is something to choose from."""

    renamed: ClassVar[Mapping[str, str]] = {"strength": "identity_scale"}

    identity_scale: float | None = Field(
        default=None, ge=0, le=1, description="0 keeps the template's face, 1 is the person's."
    )
    shape: float | None = Field(
        default=None, ge=0, le=1, description="0 keeps the template's proportions, 1 the person's."
    )
    light: float | None = Field(
        default=None, ge=0, le=1, description="0 matches the face's overall tone, 1 its shading."
    )


CARD = EngineCard(
    name="template",
    title="Face into a picture",
    learns="instantly",
    bases=(),
    min_photos=1,
    packs=("landmarker", "parser"),
    needs_canvas=True,
    paints_canvas=True,
    params=TemplateParams,
    summary="Fuses the person's face into a picture you choose; photographic, seconds on any computer.",
)
