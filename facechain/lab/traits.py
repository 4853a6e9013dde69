"""What a rendered picture shows, in the values of the product's caption grammar, and two traits more."""

from __future__ import annotations

from collections.abc import Mapping

CLOTHES: Mapping[str, tuple[float, float, float]] = {  # linear light
    "white": (0.80, 0.80, 0.78),
    "black": (0.025, 0.025, 0.028),
    "grey": (0.22, 0.22, 0.23),
    "red": (0.45, 0.035, 0.04),
    "blue": (0.04, 0.12, 0.42),
    "green": (0.05, 0.24, 0.09),
    "yellow": (0.65, 0.45, 0.06),
    "purple": (0.22, 0.06, 0.32),
}

# Trait → value → phrase, to be said after the product's own.
PHRASES: Mapping[str, Mapping[str, str]] = {
    "clothes": {name: f"{name} clothes" for name in CLOTHES},
    "beard": {"yes": "bearded"},
}


def pose_word(yaw_deg: float, pitch_deg: float) -> str:
    """By the bounds the product's own tags use."""
    if abs(pitch_deg) > 20 and abs(pitch_deg) > abs(yaw_deg):
        return "up" if pitch_deg > 0 else "down"
    if abs(yaw_deg) < 12:
        return "frontal"
    side = "right" if yaw_deg > 0 else "left"
    return f"half {side}" if abs(yaw_deg) < 32 else side
