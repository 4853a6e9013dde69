"""What a base says of itself, in facechain.toml beside its model_index.json: how it wants to be painted with and
trained on, and which identity files it brings. Published bases say nothing; then engines use their own packs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from facechain.config import build, read_toml
from facechain.engines.weights import read_config
from facechain.errors import ConfigError
from facechain.protocols import EngineCard, Manner

FILE = "facechain.toml"


@dataclass(frozen=True, kw_only=True)
class Brought:
    """Identity files of a base, made for it, in the place of an engine's published ones."""

    adapter: str  # a file in the base's folder
    kind: str  # which of the published layouts it follows
    reader: str  # reads the face vectors it was trained on
    recogniser: str  # whose vectors those are
    packs: tuple[str, ...]  # of the reader
    identitynet: str = ""  # a ControlNet's folder, for engines that place the face
    options: Mapping[str, Any] = field(default_factory=dict)  # the engine's settings it was trained with

    @property
    def files(self) -> tuple[str, ...]:
        return (self.adapter, *([f"{self.identitynet}/config.json"] if self.identitynet else ()))


@dataclass(frozen=True, kw_only=True)
class About:
    square: bool = False  # it has only seen square pictures of its own size, so it paints no others
    steps: int | None = None
    guidance: float | None = None
    sampler: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)  # settings of a LoRA training, where they differ
    identity: Mapping[str, Brought] = field(default_factory=dict)  # by engine
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by engine, of those it brings nothing for
    side_px: int = 0  # with `square`: from the autoencoder's configuration

    def manner(self, engine: str) -> Manner:
        own = self.identity.get(engine)
        return Manner(
            side_px=self.side_px,
            steps=self.steps,
            guidance=self.guidance,
            sampler=self.sampler,
            options=dict(own.options if own else self.options.get(engine, {})),
        )


def about(base: Path | None) -> About:
    """Nothing of a base without the file. Raises ConfigError for a file that is wrong."""
    if base is None or not (base / FILE).is_file():
        return About()
    values = read_toml(base / FILE)
    if "side_px" in values:
        raise ConfigError(f"{FILE} has the key 'side_px'.", "Remove it: the size is that of the autoencoder.")
    brought = {
        engine: build(Brought, given, f"{FILE}: identity.{engine}")
        for engine, given in values.pop("identity", {}).items()
    }
    there = {engine: own for engine, own in brought.items() if all((base / file).is_file() for file in own.files)}
    made = build(About, values, FILE)
    return replace(made, identity=there, side_px=_side_px(base) if made.square else 0)


def _side_px(base: Path) -> int:
    """The VAE's, or the UNet's in latents of 8 px where the VAE is named with each request."""
    part, scale = ("vae", 1) if (base / "vae" / "config.json").is_file() else ("unet", 8)
    side = read_config(base / part / "config.json").get("sample_size")
    if not isinstance(side, int):
        raise ConfigError(f"{FILE} says square, but {part}/config.json has no sample_size.", "Add it there.")
    return side * scale


def card_on(card: EngineCard, said: About, family: str, pack: str = "") -> EngineCard:
    """The card of an engine that paints on a base which says this; `pack` is the base's own, if it is one."""
    if not card.bases or not fits(card, said, family):
        return card
    made = replace(card, manner=said.manner(card.name))
    if own := said.identity.get(card.name):
        made = replace(made, packs=own.packs, bases=(family,), recogniser=own.recogniser)
    # Whoever such a base learned from looked through its training, whichever engine paints on it.
    teachers = {brought.recogniser for brought in said.identity.values()}
    made = replace(made, filtered_by=tuple(sorted({*made.filtered_by, *teachers})))
    return replace(made, packs=(pack, *made.packs)) if pack else made


def fits(card: EngineCard, said: About, family: str) -> bool:
    """Whether an engine can paint on such a base.

    One that brings identity files has sizes of its own, and published files do not fit it.
    """
    if not card.bases or card.name in said.identity:
        return True
    return family in card.bases and not (card.packs and said.identity)
