"""One seed, one picture's circumstances: how a person holds the head, looks, dresses and is lit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from facechain.lab.assets import Assets, Floats
from facechain.lab.people import Someone
from facechain.lab.traits import CLOTHES

EXPRESSIONS: Mapping[str, Mapping[str, float]] = {  # a lowered brow is the mesh's own habit; most faces lift it
    "neutral": {"mouthSmile": 0.15, "browInnerUp": 0.15, "browDown": -0.35},
    "smile": {"mouthSmile": 0.75, "cheekSquint": 0.5, "mouthDimple": 0.3, "eyeSquint": 0.1, "browDown": -0.35},
    "laugh": {
        "mouthSmile": 0.95,
        "cheekSquint": 0.8,
        "eyeSquint": 0.35,
        "jawOpen": 0.6,
        "mouthUpperUp": 0.45,
        "browDown": -0.3,
    },
    "open mouth": {"jawOpen": 0.45, "mouthLowerDown": 0.2, "browDown": -0.4},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.7, "jawOpen": 0.35},
    "eyes closed": {"eyeBlink": 1.0, "mouthSmile": 0.15},
}
_EXPRESSION_ODDS = (0.36, 0.30, 0.13, 0.07, 0.07, 0.07)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    seed: int
    yaw_deg: float  # of the head against the camera, in the sense of facechain.types
    pitch_deg: float
    roll_deg: float
    neck_share: float  # how much of the yaw is the neck's, the rest the body's
    expression: str
    units: Mapping[str, float]  # ARKit unit without side → 0…1
    gaze_deg: tuple[float, float]  # yaw and pitch against the head
    clothes: str
    clothes_colour: str
    clothes_rgb: Floats  # (3,) linear
    lights: Floats  # (L, 3) unit, towards each light, camera space
    light_rgb: Floats  # (L, 3)
    sky: Floats  # (3,)
    ground: Floats  # (3,)
    side: Floats  # (3,)
    side_dir: Floats  # (3,)
    gloss: float
    background: str  # as in the caption grammar
    backdrop: Floats = field(repr=False)  # (32, 32, 3) linear, enlarged smoothly
    face_share: float  # height from chin to crown over picture height
    shift: tuple[float, float]  # of the head's middle, in picture heights
    distance: float  # of the camera, in decimetres
    noise: float  # standard deviation in 8-bit steps


def scene(seed: int, who: Someone, assets: Assets, expression: str = "", frontal: bool = False) -> Scene:
    """A picture of `who`; an expression or a look into the camera can be asked for."""
    rng = np.random.default_rng([seed, 0x5CE7E])
    yaw, pitch = float(np.clip(rng.normal(0, 22), -60, 60)), float(np.clip(rng.normal(0, 7), -20, 20))
    if rng.random() < 0.15:
        yaw = float(rng.uniform(-60, 60))
    if rng.random() < 0.08:
        yaw, pitch = float(rng.uniform(-12, 12)), float(rng.choice([-1, 1]) * rng.uniform(21, 28))
    if frontal:
        yaw, pitch = float(rng.uniform(-6, 6)), float(rng.uniform(-4, 4))
    expression = expression or str(rng.choice(list(EXPRESSIONS), p=_EXPRESSION_ODDS))
    strength = rng.uniform(0.75, 1.1)
    units = {name: float(np.clip(value * strength, -1, 1)) for name, value in EXPRESSIONS[expression].items()}
    for small in (
        "browInnerUp",
        "browOuterUp",
        "mouthPress",
        "mouthShrugLower",
        "eyeSquint",
        "mouthLeft",
        "mouthRight",
    ):
        units[small] = units.get(small, 0.0) + float(max(0.0, rng.normal(0, 0.08)))
    if expression == "eyes closed":
        units["eyeSquint"] = 0.0
    to_camera = rng.random() < 0.7
    gaze = (-yaw * 0.55 if to_camera else rng.normal(0, 8), -pitch * 0.5 if to_camera else rng.normal(0, 4))
    gaze = (float(np.clip(gaze[0] + rng.normal(0, 2), -22, 22)), float(np.clip(gaze[1], -10, 10)))
    fitting = [n for n in assets.clothes if n.startswith("female" if who.female > 0.5 else "male")]
    clothes = str(rng.choice(fitting))
    colour = str(rng.choice(list(CLOTHES)))
    background = str(rng.choice(["plain light", "plain dark", "busy light", "busy dark"], p=(0.32, 0.22, 0.24, 0.22)))
    lights, light_rgb, sky, ground, side, side_dir = _light(rng)
    return Scene(
        seed=seed,
        yaw_deg=yaw,
        pitch_deg=pitch,
        roll_deg=float(np.clip(rng.normal(0, 4), -12, 12)),
        neck_share=float(rng.uniform(0.2, 0.6)),
        expression=expression,
        units=units,
        gaze_deg=gaze,
        clothes=clothes,
        clothes_colour=colour,
        clothes_rgb=(np.array(CLOTHES[colour]) * np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.1))).astype(
            np.float32
        ),
        lights=lights,
        light_rgb=light_rgb,
        sky=sky,
        ground=ground,
        side=side,
        side_dir=side_dir,
        gloss=float(rng.uniform(0.5, 1.3)),
        background=background,
        backdrop=_backdrop(rng, background),
        face_share=float(rng.uniform(0.78, 0.90)),
        shift=(float(rng.normal(0, 0.015)), float(rng.normal(0.0, 0.012))),
        distance=float(rng.uniform(9, 22)),
        noise=float(rng.uniform(0.5, 2.5)),
    )


def _light(rng: np.random.Generator) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """A key light from the front half, a weaker fill, perhaps one from behind, and light from all around."""
    warmth = rng.normal(0, 0.10)
    key_rgb = np.exp(np.array((warmth, 0, -warmth))) * rng.uniform(0.7, 1.3)
    key = _towards(rng.uniform(-70, 70), rng.uniform(5, 55))
    fill = _towards(-np.sign(key[0]) * rng.uniform(20, 70), rng.uniform(-5, 30))
    fill_rgb = np.exp(np.array((-warmth, 0, warmth)) * rng.uniform(0, 1.5)) * rng.uniform(0.1, 0.5)
    lights, rgb = [key, fill], [key_rgb, fill_rgb]
    if rng.random() < 0.4:
        lights.append(_towards(rng.choice([-1, 1]) * rng.uniform(115, 150), rng.uniform(10, 40)))
        rgb.append(np.exp(rng.normal(0, 0.12, 3)) * rng.uniform(0.3, 0.9))
    around = rng.uniform(0.35, 0.8)
    sky = around * np.exp(np.array((-0.5, 0, 0.8)) * rng.normal(0, 0.12))
    ground = around * rng.uniform(0.25, 0.7) * np.exp(np.array((1, 0, -1)) * rng.normal(0.05, 0.12))
    side = np.exp(rng.normal(0, 0.2, 3)) * rng.uniform(0, 0.35)
    side_dir = _towards(rng.uniform(-100, 100), rng.uniform(-20, 30))
    as_floats = [np.asarray(a, np.float32) for a in (lights, rgb, sky, ground, side, side_dir)]
    return as_floats[0], as_floats[1], as_floats[2], as_floats[3], as_floats[4], as_floats[5]


def _towards(azimuth_deg: float, height_deg: float) -> Floats:
    a, h = np.radians(azimuth_deg), np.radians(height_deg)
    return np.array((np.sin(a) * np.cos(h), np.sin(h), np.cos(a) * np.cos(h)), np.float32)


def _backdrop(rng: np.random.Generator, kind: str) -> Floats:
    busy, light = kind.startswith("busy"), kind.endswith("light")
    level = rng.uniform(0.45, 0.85) if light else rng.uniform(0.015, 0.09)
    tint = np.exp(rng.normal(0, 0.14 if light else 0.3, 3) * (1, 0.6, 1))
    grid = np.ones((32, 32, 3)) * level * tint
    y, x = np.mgrid[0:32, 0:32] / 31 - 0.5
    grid *= np.exp(rng.normal(0, 0.25) * y + rng.normal(0, 0.25) * x - rng.uniform(0, 0.5) * (x * x + y * y))[..., None]
    if busy:
        for _ in range(int(rng.integers(8, 22))):
            other = np.exp(rng.normal(0, 0.3, 3)) * level * np.exp(rng.normal(0, 0.55))
            if rng.random() < 0.5:  # something upright, as furniture, windows and trees are
                x0, y0 = rng.integers(-4, 30, 2)
                x1, y1 = x0 + rng.integers(1, 12), y0 + rng.integers(3, 26)
                grid[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = other
            else:
                cx, cy, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.04, 0.14)
                grid[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = other
        sharp = int(rng.choice([5, 8, 12, 20]))  # how far out of focus
        grid = np.stack([_resized(grid[..., k].astype(np.float32), sharp, 32) for k in range(3)], 2)
    return np.maximum(grid, 0.002).astype(np.float32)


def _resized(plane: Floats, small: int, size: int) -> Floats:
    picture = Image.fromarray(plane).resize((small, small), Image.Resampling.BOX)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), np.float32)
