"""What the template engine needs and offers."""

from facechain.engines.template.fuse import Settings
from facechain.options import options_of
from facechain.protocols import EngineCard

CARD = EngineCard(
    name="template",
    title="Face into a picture",
    learns="instantly",
    bases=(),
    min_photos=1,
    packs=("landmarker", "parser"),
    needs_canvas=True,
    paints_canvas=True,
    summary="Fuses the person's face into a picture you choose; photographic, seconds on any computer.",
    options=options_of(Settings),
)
