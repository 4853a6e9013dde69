"""Each identity engine, opened from the packs that hold its published files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facechain.engines import arc2face, faceid, fact, instantid, photomaker, pulid
from facechain.engines.about import Brought
from facechain.engines.diffusion.session import DiffusionContext
from facechain.protocols import Engine, EngineCard, FaceReader, Parser


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """Where an engine's parts come from; nothing is opened before it is used."""

    context: DiffusionContext
    pack: Callable[[str, str], Path]  # pack id, file name; raises PackMissing
    reader: Callable[[str], FaceReader]  # by name
    parser: Callable[[], Parser]  # tells the parts of a portrait
    revision: Callable[[str], str] = lambda pack: ""  # names a pack's bytes without reading them
    folder: Path | None = None  # of the base
    brings: Mapping[str, Brought] = field(default_factory=dict)  # engine -> the files the base has for it


# engine and pack -> its file, which of the FaceID files it is, and the reader of its recogniser
FACEID = {
    "faceid": ("ip-adapter-faceid_sd15.bin", "faceid", "buffalo_l"),
    "faceid-plus": ("ip-adapter-faceid-plus_sd15.bin", "faceid-plus", "buffalo_l"),
    "faceid-plusv2": ("ip-adapter-faceid-plusv2_sd15.bin", "faceid-plusv2", "buffalo_l"),
    "faceid-portrait": ("ip-adapter-faceid-portrait-v11_sd15.bin", "portrait", "buffalo_l"),
    "faceid-xl": ("ip-adapter-faceid_sdxl.bin", "faceid", "buffalo_l"),
    "faceid-plusv2-xl": ("ip-adapter-faceid-plusv2_sdxl.bin", "faceid-plusv2", "buffalo_l"),
    "faceid-portrait-xl": ("ip-adapter-faceid-portrait_sdxl.bin", "portrait", "buffalo_l"),
    "faceid-portrait-unnorm": ("ip-adapter-faceid-portrait_sdxl_unnorm.bin", "portrait-unnorm", "buffalo_l_raw"),
}
FACT = {
    "fact": "adapter_film_mask_large_new_reg001_faceshuffle_00290001.ckpt",
    "fact-majicmix": "adapter_maj_mask_large_new_reg001_faceshuffle_00290001.ckpt",
}


def _opened(shelf: Shelf, pack: str, file: str) -> dict[str, Any]:
    """What every engine is given. The pack says which bytes these are, so that learning need not read them."""
    return {
        "context": shelf.context,
        "checkpoint": shelf.pack(pack, file),
        "revision": shelf.revision(pack),
    }


def _brought(shelf: Shelf, engine: str) -> dict[str, Any]:
    """As `_opened`, from the files the base brings for this engine; empty when it brings none."""
    if (own := shelf.brings.get(engine)) is None or shelf.folder is None:
        return {}
    with (shelf.folder / own.adapter).open("rb") as file:
        revision = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return {
        "context": shelf.context,
        "checkpoint": shelf.folder / own.adapter,
        "revision": revision,
        "kind": own.kind,
        "reader": shelf.reader(own.reader),
        "recogniser": own.recogniser,
        **({"identitynet": shelf.folder / own.identitynet} if own.identitynet else {}),
    }


def _faceid(card: EngineCard) -> tuple[EngineCard, Callable[[Shelf], Engine]]:
    file, kind, reader = FACEID[card.name]

    def make(shelf: Shelf) -> Engine:
        if own := _brought(shelf, card.name):
            return faceid.FaceIdEngine(**own, card=card)
        return faceid.FaceIdEngine(
            **_opened(shelf, card.name, file),
            kind=kind,
            reader=shelf.reader(reader),
            clip=shelf.pack("clip-vit-h", "config.json").parent if "clip-vit-h" in card.packs else None,
            card=card,
        )

    return card, make


def _instantid(shelf: Shelf) -> Engine:
    if own := _brought(shelf, "instantid"):
        return instantid.InstantIdEngine(**own)
    return instantid.InstantIdEngine(
        **_opened(shelf, "instantid", "ip-adapter.bin"),
        identitynet=shelf.pack("instantid", "ControlNetModel/config.json").parent,
        reader=shelf.reader("antelopev2_raw"),
    )


def _photomaker(shelf: Shelf) -> Engine:
    return photomaker.PhotoMakerEngine(**_opened(shelf, "photomaker", "photomaker-v1.bin"), kind="photomaker-v1")


def _photomaker_v2(shelf: Shelf) -> Engine:
    return photomaker.PhotoMakerEngine(
        **_opened(shelf, "photomaker-v2", "photomaker-v2.bin"),
        kind="photomaker-v2",
        reader=shelf.reader("buffalo_l_raw"),
        card=photomaker.CARD_V2,
    )


def _pulid(card: EngineCard, file: str, kind: str) -> tuple[EngineCard, Callable[[Shelf], Engine]]:
    def make(shelf: Shelf) -> Engine:
        return pulid.PulidEngine(
            **_opened(shelf, card.name, file),
            kind=kind,
            reader=shelf.reader("antelopev2_raw"),
            tower=shelf.pack("eva02-clip", "EVA02_CLIP_L_336_psz14_s6B.pt"),
            parser=shelf.parser(),
            card=card,
        )

    return card, make


def _arc2face(shelf: Shelf) -> Engine:
    given = _opened(shelf, "arc2face", "encoder/pytorch_model.bin")
    return arc2face.Arc2FaceEngine(
        text_encoder=given.pop("checkpoint"),
        unet=shelf.pack("arc2face", "arc2face/config.json").parent,
        reader=shelf.reader("arc2face"),
        kind="arc2face",
        **given,
    )


def _fact(card: EngineCard) -> tuple[EngineCard, Callable[[Shelf], Engine]]:
    def make(shelf: Shelf) -> Engine:
        return fact.FactEngine(
            **_opened(shelf, card.name, FACT[card.name]),
            kind="fact",
            transface=shelf.pack("transface", "ms1mv2_model_TransFace_S.pt"),
            card=card,
        )

    return card, make


# name -> card, and how it is opened
IDENTITY: Mapping[str, tuple[EngineCard, Callable[[Shelf], Engine]]] = {
    **{card.name: _faceid(card) for card in faceid.CARDS},
    "instantid": (instantid.CARD, _instantid),
    "photomaker": (photomaker.CARD, _photomaker),
    "photomaker-v2": (photomaker.CARD_V2, _photomaker_v2),
    "pulid-v1": _pulid(pulid.CARD_V1, "pulid_v1.bin", "pulid-v1"),
    "pulid": _pulid(pulid.CARD, "pulid_v1.1.safetensors", "pulid-v1.1"),
    "arc2face": (arc2face.CARD, _arc2face),
    **{card.name: _fact(card) for card in fact.CARDS},
}
