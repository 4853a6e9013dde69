"""Rendered people on disk: one npz file for every few identities, each made from its number alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facechain.lab.people import someone
from facechain.lab.render import Model, Sitter, render
from facechain.lab.scenes import scene
from facechain.protocols import FaceReader

RENDER_PX = 256  # recognisers see this size whatever size is kept
PEOPLE = 25  # identities a shard
Describe = Callable[[Mapping[str, str]], str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """N pictures; the first of each person is frontal."""

    pixels: NDArray[np.uint8]  # (N, S, S, 3)
    person: NDArray[np.int32]  # (N,)
    scene: NDArray[np.int32]  # (N,) seeds
    points: NDArray[np.float32]  # (N, 5, 2) in picture widths
    pose_deg: NDArray[np.float32]  # (N, 3) yaw, pitch, roll
    labels: NDArray[np.uint8]  # (N, S, S)
    embedding: NDArray[np.float32]  # (N, D); zeros where the recogniser saw no face
    caption: NDArray[np.str_]  # (N,)
    traits: NDArray[np.str_]  # (N,) JSON


def write_shard(
    path: Path,
    first: int,
    views: range,
    size_px: int,
    model: Model,
    reader: FaceReader,
    describe: Describe,
    dye: bool = False,
) -> None:
    """Persons first … first + PEOPLE - 1, with other hair in each picture if `dye`. Written whole or not at all."""
    rows: dict[str, list] = {name: [] for name in Shard.__dataclass_fields__}
    for person in range(first, first + PEOPLE):
        who = someone(person, model.assets)
        sitter = Sitter(who, model)
        for view in views:
            seed = person * 100 + view
            shown = sitter.dyed(seed) if dye else sitter
            made = render(shown, scene(seed, who, model.assets, frontal=view == 0), RENDER_PX)
            faces = reader.read(made.pixels)
            seen = faces[0].embedding if len(faces) == 1 else None
            small = Image.fromarray(made.pixels).resize((size_px, size_px), Image.Resampling.BOX)
            step = RENDER_PX // size_px
            rows["pixels"].append(np.asarray(small))
            rows["person"].append(person)
            rows["scene"].append(seed)
            rows["points"].append(made.points_px / RENDER_PX)
            rows["pose_deg"].append((made.pose.yaw_deg, made.pose.pitch_deg, made.pose.roll_deg))
            rows["labels"].append(made.labels[step // 2 :: step, step // 2 :: step])
            rows["embedding"].append(None if seen is None else seen.vector)
            rows["caption"].append(describe(made.traits))
            rows["traits"].append(json.dumps(made.traits))
    width = max((len(e) for e in rows["embedding"] if e is not None), default=1)
    rows["embedding"] = [np.zeros(width, np.float32) if e is None else e for e in rows["embedding"]]
    types = {"person": np.int32, "scene": np.int32, "points": np.float32, "pose_deg": np.float32}
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        columns: dict[str, Any] = {name: np.array(row, types.get(name)) for name, row in rows.items()}
        np.savez_compressed(file, **columns)
    part.replace(path)


def read_shards(folder: Path) -> Shard:
    """All finished shards of a folder as one, in the order of their names."""
    files = sorted(folder.glob("people-*.npz"))
    loaded = [dict(np.load(file, allow_pickle=False)) for file in files]
    return Shard(**{name: np.concatenate([part[name] for part in loaded]) for name in Shard.__dataclass_fields__})


def apart(shard: Shard, limit: float) -> NDArray[np.int32]:
    """Persons to keep: seen by the recogniser from the front, and no more alike than `limit` to one kept before."""
    kept: list[int] = []
    vectors: list[NDArray[np.float32]] = []
    for person, rows in _people(shard):
        vector = shard.embedding[rows[0]]
        if not vector.any() or (vectors and float((np.stack(vectors) @ vector).max()) > limit):
            continue
        kept.append(person)
        vectors.append(vector)
    return np.array(kept, np.int32)


def only(shard: Shard, people: NDArray[np.int32]) -> Shard:
    rows = np.isin(shard.person, people)
    return Shard(**{name: getattr(shard, name)[rows] for name in Shard.__dataclass_fields__})


def _people(shard: Shard) -> Iterator[tuple[int, NDArray[np.intp]]]:
    for person in np.unique(shard.person):
        yield int(person), np.flatnonzero(shard.person == person)
