"""Which face vector goes into which method. A wrong pairing runs and only loses likeness, so it is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facechain.errors import EngineError
from facechain.types import Embedding


@dataclass(frozen=True, kw_only=True)
class Method:
    title: str
    structure: str  # a builder of `formats`
    family: str  # base models it was made for
    recogniser: str = ""  # whose vectors it was trained on; empty: it looks at pixels only
    pack: str = ""  # the published bundle that recogniser comes in
    unit_norm: bool = True
    clip: bool = False  # also looks through CLIP ViT-H/14


def _faceid(title: str, structure: str, *, unit_norm: bool = True, clip: bool = False) -> Method:
    return Method(
        title=title,
        structure=structure,
        family="sd15 or sdxl",
        recogniser="w600k_r50",
        pack="buffalo_l",
        unit_norm=unit_norm,
        clip=clip,
    )


METHODS: dict[str, Method] = {
    "faceid": _faceid("IP-Adapter FaceID", "faceid"),
    "faceid-plus": _faceid("IP-Adapter FaceID Plus", "faceid_plus", clip=True),
    "faceid-plusv2": _faceid("IP-Adapter FaceID PlusV2", "faceid_plus", clip=True),
    "portrait": _faceid("IP-Adapter FaceID Portrait", "portrait"),
    "portrait-unnorm": _faceid("IP-Adapter FaceID Portrait (unnorm)", "instantid", unit_norm=False),
    "instantid": Method(
        title="InstantID",
        structure="instantid",
        family="sdxl",
        recogniser="glintr100",
        pack="antelopev2",
        unit_norm=False,
    ),
    "photomaker-v1": Method(title="PhotoMaker", structure="photomaker_v1", family="sdxl"),
    "photomaker-v2": Method(
        title="PhotoMaker v2",
        structure="photomaker_v2",
        family="sdxl",
        recogniser="w600k_r50",
        pack="buffalo_l",
        unit_norm=False,
    ),
    "pulid-v1": Method(
        title="PuLID v1",
        structure="pulid_v1",
        family="sdxl",
        recogniser="glintr100",
        pack="antelopev2",
        unit_norm=False,
    ),
    "pulid-v1.1": Method(
        title="PuLID v1.1",
        structure="pulid_v11",
        family="sdxl",
        recogniser="glintr100",
        pack="antelopev2",
        unit_norm=False,
    ),
    "arc2face": Method(
        title="Arc2Face text encoder",
        structure="arc2face_text",
        family="sd15",
        recogniser="arcface",
        pack="arc2face",
    ),
    "fact": Method(title="FaceChain-FACT adapter", structure="fact", family="sd15"),
    "transface": Method(title="TransFace-S", structure="transface", family="sd15"),
    "eva02-clip": Method(title="EVA02-CLIP-L-14-336", structure="eva_clip", family="sdxl"),
}


WIDTHS = {"sface_2021dec": 128}  # of the recognisers whose vectors are not 512 numbers


def check_embedding(kind: str, embedding: Embedding, recogniser: str = "") -> None:
    """Raises EngineError unless `embedding` is what `kind` was trained on.

    `recogniser` overrides the published one for weights trained on another.
    """
    method, wanted = METHODS[kind], recogniser or METHODS[kind].recogniser
    width = WIDTHS.get(wanted, 512)
    if embedding.recogniser != wanted:
        bundle = f" (pack {method.pack})" if method.pack and not recogniser else ""
        raise EngineError(
            f"{method.title} was trained on faces read by {wanted}{bundle}, but these were read by "
            f"{embedding.recogniser}.",
            f"Give it a reader for {wanted}.",
        )
    if embedding.vector.shape != (width,):
        raise EngineError(
            f"{method.title} takes face vectors of {width} numbers, not {embedding.vector.shape}.",
            f"Give it a reader for {wanted}.",
        )
    norm = float(np.linalg.norm(embedding.vector))
    if not np.isfinite(norm) or norm == 0:
        raise EngineError("The face vector is empty or not finite.", "Read the photo again.")
    if embedding.unit_norm != method.unit_norm or (abs(norm - 1) < 1e-3) != method.unit_norm:
        names = {True: "unit-length", False: "raw"}
        came = "unit-length" if abs(norm - 1) < 1e-3 else f"of length {norm:.1f}"
        raise EngineError(
            f"{method.title} needs {names[method.unit_norm]} face vectors, but these are {came} and marked "
            f"{names[embedding.unit_norm]}.",
            f"Give it a reader with unit_norm={method.unit_norm}.",
        )
