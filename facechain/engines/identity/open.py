"""Each identity engine, opened from the packs that hold its published files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facechain.engines import arc2face, faceid, fact, instantid, photomaker, pulid
from facechain.protocols import Engine, EngineCard, FaceReader


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Where an engine's parts come from; nothing is opened before it is used."""

    base: Callable[[], Any]  # the diffusers pipeline to paint with
    pack: Callable[[str, str], Path]  # pack id, file name; raises PackMissing
    reader: Callable[[str], FaceReader]  # by name


FACEID = {
    "faceid": "ip-adapter-faceid_sd15.bin",
    "faceid-plusv2": "ip-adapter-faceid-plusv2_sd15.bin",
    "faceid-portrait": "ip-adapter-faceid-portrait-v11_sd15.bin",
    "faceid-xl": "ip-adapter-faceid_sdxl.bin",
}


def _faceid(card: EngineCard, file: str) -> tuple[EngineCard, Callable[[Shelf], Engine]]:
    def make(shelf: Shelf) -> Engine:
        return faceid.FaceIdEngine(
            base=shelf.base,
            checkpoint=shelf.pack(card.name, file),
            reader=shelf.reader("buffalo_l"),
            clip=shelf.pack("clip-vit-h", "config.json").parent if "clip-vit-h" in card.packs else None,
            card=card,
        )

    return card, make


def _instantid(shelf: Shelf) -> Engine:
    return instantid.InstantIdEngine(
        base=shelf.base,
        checkpoint=shelf.pack("instantid", "ip-adapter.bin"),
        identitynet=shelf.pack("instantid", "ControlNetModel/config.json").parent,
        reader=shelf.reader("antelopev2_raw"),
    )


def _photomaker(shelf: Shelf) -> Engine:
    return photomaker.PhotoMakerEngine(base=shelf.base, checkpoint=shelf.pack("photomaker", "photomaker-v1.bin"))


def _photomaker_v2(shelf: Shelf) -> Engine:
    checkpoint = shelf.pack("photomaker-v2", "photomaker-v2.bin")
    reader = shelf.reader("buffalo_l_raw")
    return photomaker.PhotoMakerEngine(base=shelf.base, checkpoint=checkpoint, reader=reader, card=photomaker.CARD_V2)


def _pulid(shelf: Shelf) -> Engine:
    checkpoint = shelf.pack("pulid", "pulid_v1.1.safetensors")
    tower = shelf.pack("eva02-clip", "EVA02_CLIP_L_336_psz14_s6B.pt")
    reader = shelf.reader("antelopev2_raw")
    return pulid.PulidEngine(base=shelf.base, checkpoint=checkpoint, reader=reader, tower=tower)


def _arc2face(shelf: Shelf) -> Engine:
    return arc2face.Arc2FaceEngine(
        base=shelf.base,
        text_encoder=shelf.pack("arc2face", "encoder/pytorch_model.bin"),
        unet=shelf.pack("arc2face", "arc2face/config.json").parent,
        reader=shelf.reader("arc2face"),
    )


def _fact(shelf: Shelf) -> Engine:
    return fact.FactEngine(
        base=shelf.base,
        checkpoint=shelf.pack("fact", "adapter_film.ckpt"),
        transface=shelf.pack("fact", "ms1mv2_model_TransFace_S.pt"),
    )


# name -> card, and how it is opened
IDENTITY: Mapping[str, tuple[EngineCard, Callable[[Shelf], Engine]]] = {
    **{card.name: _faceid(card, FACEID[card.name]) for card in faceid.CARDS},
    "instantid": (instantid.CARD, _instantid),
    "photomaker": (photomaker.CARD, _photomaker),
    "photomaker-v2": (photomaker.CARD_V2, _photomaker_v2),
    "pulid": (pulid.CARD, _pulid),
    "arc2face": (arc2face.CARD, _arc2face),
    "fact": (fact.CARD, _fact),
}
