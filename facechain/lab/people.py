"""One seed, one person who does not exist: the numbers of a face, and the shape and skin they give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facechain.lab.assets import TEXTURE_PX, Assets, Floats, Target

RACES = ("african", "asian", "caucasian")
HAIR_COLOURS: Mapping[str, tuple[float, float, float]] = {  # linear light, of a bright strand
    "black": (0.014, 0.012, 0.012),
    "brown": (0.085, 0.042, 0.022),
    "blond": (0.76, 0.52, 0.25),
    "red": (0.30, 0.075, 0.025),
    "grey": (0.26, 0.255, 0.25),
    "white": (0.66, 0.65, 0.62),
}
HAIR_LENGTHS: Mapping[str, str] = {
    "afro01": "short",
    "short01": "short",
    "short02": "short",
    "short03": "short",
    "short04": "short",
    "bob01": "medium",
    "bob02": "medium",
    "braid01": "long",
    "long01": "long",
    "ponytail01": "long",
    "none": "none",
}
_HAIR_OF = {  # how often a style is worn: (by a man, by a woman)
    "afro01": (1, 1),
    "short01": (3, 0.6),
    "short02": (3, 0.6),
    "short03": (1.5, 0.8),
    "short04": (3, 0.4),
    "bob01": (0.1, 2),
    "bob02": (0.1, 2),
    "braid01": (0, 1.6),
    "long01": (0.35, 2.5),
    "ponytail01": (0.15, 2),
    "none": (1.2, 0),
}
_UNUSED = re.compile(r"head-(age|trans|fat|angle)|neck-trans|asymm-|brown|cup")
_STRONG = {"head": 0.24, "neck": 0.18, "asym": 0.13, "eyes": 0.22, "mouth": 0.22, "nose": 0.24}
_SPREAD = 0.26
_ENDS = (
    ("-decr", "-incr"),
    ("-down", "-up"),
    ("-in", "-out"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
    ("-l", "-r"),
)


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A pair of opposite shape changes on one scale -1…1; the eyes, ears and cheeks move as pairs."""

    name: str
    less: tuple[str, ...]
    more: tuple[str, ...]
    spread: float


def sliders(assets: Assets) -> tuple[Slider, ...]:
    """Every face slider the targets give, in the order of their names."""
    names = [n for n in assets.targets if not n.startswith("macrodetails") and not _UNUSED.search(n)]
    pairs: dict[str, tuple[list[str], list[str]]] = {}
    for name in sorted(names):
        stem = re.sub(r"/[lr]-", "/", name)
        for low, high in _ENDS:
            if stem.endswith((low, high)):
                side = 0 if stem.endswith(low) else 1
                pairs.setdefault(stem.removesuffix(low).removesuffix(high), ([], []))[side].append(name)
                break
        else:
            pairs.setdefault(stem, ([], []))[1].append(name)
    return tuple(
        Slider(name=name, less=tuple(less), more=tuple(more), spread=_STRONG.get(name.split("/")[0], _SPREAD))
        for name, (less, more) in pairs.items()
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Someone:
    """All that makes one person; `vector` holds the same as plain numbers."""

    seed: int
    age_years: float
    female: float  # 0…1
    races: Floats  # (3,) african, asian, caucasian, sums to 1
    weight: float  # 0…1
    muscle: float  # 0…1
    shape: Floats  # one number for each slider
    hair: str
    hair_mirrored: bool
    hair_cut_y: float  # decimetres above the neck joint where long hair ends
    fringe_y: float  # decimetres above the eyes where it ends over the face
    hair_colour: str
    hair_rgb: Floats  # (3,) linear
    brows: str
    lashes: str
    iris: str
    brow_darkness: float  # 0…1
    beard: float  # 0…1
    lips: float  # 0…1, how much redder
    freckles: float  # 0…1
    skin_seed: int

    @cached_property
    def vector(self) -> Floats:
        names = [list(HAIR_LENGTHS).index(self.hair), int(self.brows[-3:]), int(self.lashes[-2:])]
        head = [self.age_years / 100, self.female, *self.races, self.weight, self.muscle]
        rest = [
            *self.hair_rgb,
            self.hair_mirrored,
            self.hair_cut_y,
            self.fringe_y,
            self.brow_darkness,
            self.beard,
            self.lips,
            self.freckles,
        ]
        return np.array([*head, *rest, *names, *self.shape], np.float32)

    @property
    def age(self) -> str:
        return "senior" if self.age_years >= 65 else "adult"


def someone(seed: int, assets: Assets) -> Someone:
    """Adults only, 20 to 85 years."""
    rng = np.random.default_rng([seed, 0x9E09])
    woman = rng.random() < 0.5
    female = float(np.clip((0.86 if woman else 0.14) + rng.normal(0, 0.12), 0, 1))
    age = float(rng.uniform(20, 58) if rng.random() < 0.72 else rng.uniform(65, 85))
    races = rng.dirichlet((0.35, 0.35, 0.35)).astype(np.float32)
    shape = np.array([np.clip(rng.normal(0, s.spread), -0.7, 0.7) for s in sliders(assets)], np.float32)

    odds = np.array([pair[int(woman)] for pair in _HAIR_OF.values()], np.float64)
    odds[list(_HAIR_OF).index("afro01")] *= 4 * races[0] ** 2
    hair = str(rng.choice(list(_HAIR_OF), p=odds / odds.sum()))
    colour = _hair_colour(rng, age, races)
    rgb = _varied(rng, colour)
    blue_eyed = rng.random() < races[2] * 0.75
    iris = str(rng.choice([n for n in assets.irises if ("brown" in n) != blue_eyed]))
    return Someone(
        seed=seed,
        age_years=age,
        female=female,
        races=races,
        weight=float(np.clip(rng.normal(0.5, 0.2), 0.05, 0.95)),
        muscle=float(np.clip(rng.normal(0.55 - 0.15 * female, 0.15), 0.1, 0.9)),
        shape=shape,
        hair=hair,
        hair_mirrored=bool(rng.random() < 0.5),
        hair_cut_y=float(rng.uniform(-1.6, 0.35)),
        fringe_y=float(rng.uniform(0.12, 0.34)),
        hair_colour=colour,
        hair_rgb=rgb,
        brows=str(rng.choice(sorted(assets.brows))),
        lashes=str(rng.choice(sorted(assets.lashes))),
        iris=iris,
        brow_darkness=float(rng.uniform(0.45, 1)),
        beard=0.0 if woman or rng.random() < 0.5 else float(rng.uniform(0.15, 1)),
        lips=float(rng.uniform(0.3, 1.0) if woman else rng.uniform(0, 0.3)),
        freckles=float(max(0, rng.normal(-0.2, 0.5))),
        skin_seed=int(rng.integers(1 << 31)),
    )


def dyed(who: Someone, seed: int) -> Someone:
    """The same person with other hair on the head."""
    rng = np.random.default_rng([seed, 0xD7E])
    colour = str(rng.choice([name for name in HAIR_COLOURS if name != who.hair_colour]))
    return replace(who, hair_colour=colour, hair_rgb=_varied(rng, colour))


def _varied(rng: np.random.Generator, colour: str) -> Floats:
    factors = np.exp(rng.normal(0, 0.18, 3) * (0.4, 0.4, 0.5) + rng.normal(0, 0.2))
    return (np.array(HAIR_COLOURS[colour], np.float32) * factors).astype(np.float32)


def _hair_colour(rng: np.random.Generator, age: float, races: Floats) -> str:
    if rng.random() < np.clip((age - 48) / 25, 0, 0.92):
        return str(rng.choice(["grey", "white"]))
    light = 0.15 + 0.85 * float(races[2])
    odds = np.array([1.1 - 0.75 * light, 0.9, 0.75 * light, 0.4 * light])
    return str(rng.choice(["black", "brown", "blond", "red"], p=odds / odds.sum()))


def shaped(who: Someone, assets: Assets) -> Floats:
    """The base mesh with this person's age, sex, build and face; at rest, without expression. (19158, 3)"""
    base = assets.base.copy()
    old = float(np.clip((who.age_years - 25) / 65, 0, 1))
    ages = {"young": 1 - old, "old": old}
    sexes = {"female": who.female, "male": 1 - who.female}
    builds = {
        "muscle": {"min": max(0.0, 1 - 2 * who.muscle), "max": max(0.0, 2 * who.muscle - 1)},
        "weight": {"min": max(0.0, 1 - 2 * who.weight), "max": max(0.0, 2 * who.weight - 1)},
    }
    for kind in builds.values():
        kind["average"] = 1 - kind["min"] - kind["max"]
    for sex, s in sexes.items():
        for age, a in ages.items():
            for race, r in zip(RACES, who.races, strict=True):
                _add(base, assets.targets[f"macrodetails/{race}-{sex}-{age}"], s * a * float(r))
            for muscle, m in builds["muscle"].items():
                for weight, w in builds["weight"].items():
                    _add(
                        base,
                        assets.targets[f"macrodetails/universal-{sex}-{age}-{muscle}muscle-{weight}weight"],
                        s * a * m * w,
                    )
    for slider, value in zip(sliders(assets), who.shape, strict=True):
        for name in slider.more if value > 0 else slider.less:
            _add(base, assets.targets[name], abs(float(value)))
    return base


def _add(base: Floats, target: Target, amount: float) -> None:
    if amount > 1e-3:
        base[target.index] += target.vector * np.float32(amount)


def skin(who: Someone, assets: Assets) -> NDArray[np.uint8]:
    """(512, 512, 3) sRGB: photographed skins blended as light, with blotches, freckles and the lips' own red."""
    rng = np.random.default_rng(who.skin_seed)
    sex = "female" if who.female > 0.5 else "male"
    # Two races at most, of one age: more pictures in one blend wash the pores out.
    band, other, share = _skin_ages(who.age_years)
    first, second = np.argsort(who.races)[::-1][:2]
    lean = float(who.races[first] / (who.races[first] + who.races[second]))
    lean = 1.0 if lean > 0.8 else lean
    log = np.zeros((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    for race, part in ((RACES[first], lean), (RACES[second], 1 - lean)):
        for age, weight in ((band, 1 - share), (other, share)):
            if part * weight > 0.01:
                variant = "2" if race == "caucasian" and age == "young" and who.skin_seed % 2 else ""
                texture = assets.skins[f"{age}_{race}_{sex}{variant}"].astype(np.float32) / 255
                log += part * weight * np.log(np.maximum(texture, 0.02) ** 2.2)
    light = np.exp(log)
    tone = np.exp(rng.normal(0, 0.13) + rng.normal(0, (0.02, 0.03, 0.05), 3))
    blotches = _clouds(rng, 24)[..., None] * np.array((0.03, 0.07, 0.06), np.float32)
    light = light * tone * np.exp(blotches)
    if who.freckles > 0:
        spots = np.clip(_clouds(rng, 220) - 1.4, 0, 1)[..., None] * np.clip(_clouds(rng, 14) + 0.6, 0, 1)[..., None]
        light = light * np.exp(-who.freckles * spots * np.array((0.5, 0.8, 1.0), np.float32))
    light = 0.86 * light + 0.14 * light.mean(2, keepdims=True)
    lips = (assets.lips.astype(np.float32) / 255)[..., None] * who.lips
    light = light * (1 - lips * np.array((0.05, 0.42, 0.34), np.float32))
    return (np.clip(light, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def _skin_ages(years: float) -> tuple[str, str, float]:
    if years < 45:
        return "young", "middleage", float(np.clip((years - 22) / 23, 0, 1))
    return "middleage", "old", float(np.clip((years - 45) / 25, 0, 1))


def _clouds(rng: np.random.Generator, cells: int) -> Floats:
    """Smooth unit noise, (512, 512)."""
    small = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(small.resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.BICUBIC), np.float32)
