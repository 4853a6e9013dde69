"""What the engine needs and costs; readable without torch."""

from __future__ import annotations

from facechain.protocols import EngineCard

CARD = EngineCard(
    name="lora",
    title="Learned portrait (LoRA)",
    learns="by training",
    bases=("sd15", "sdxl"),
    min_photos=3,
    packs=(),
    needs_canvas=False,
    paints_canvas=False,
    summary="Learns the person from 3 to 30 photos in minutes to an hour on a GPU; paints them in any style.",
)
