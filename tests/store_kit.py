"""People and portraits of noise, for tests of keeping them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from facechain.store.workspace import Workspace
from facechain.types import Call, Consent, Crop, Embedding, Face, Person, Portrait, Pose, Tag, Verdict


def embedding(seed: int) -> Embedding:
    vector = np.random.default_rng(seed).normal(size=128).astype(np.float32)
    return Embedding(vector=vector, recogniser="sface_2021dec", unit_norm=seed % 2 == 0)


def crop(seed: int, photo_id: str = "", side_px: int = 48) -> Crop:
    rng = np.random.default_rng(seed)
    face = Face(
        box_px=rng.uniform(0, side_px, 4).astype(np.float32),
        points_px=rng.uniform(0, side_px, (5, 2)).astype(np.float32),
        score=float(rng.uniform()),
        pose=Pose(yaw_deg=float(rng.normal()), pitch_deg=0.1, roll_deg=-3.0),
        embedding=embedding(seed),
    )
    return Crop(
        photo_id=photo_id or f"photo{seed}",
        photo_name=f"Zoë \udcff {seed}.jpg",
        pixels=rng.integers(0, 256, (side_px, side_px, 3), np.uint8),
        face=face,
        head_mask=rng.uniform(0, 1, (side_px, side_px)).astype(np.float32),
        quality=float(rng.uniform()),
        photo_px=rng.uniform(-9, side_px, (4, 2)).astype(np.float32),
        tags=(Tag(name="glasses", value="unknown", confidence=0.25), Tag(name="age", value="adult", confidence=0.9)),
        caption="a portrait, Größe, 笑",
    )


def person(name: str = "Ada", seed: int = 0, crops: tuple[Crop, ...] = (), side_px: int = 48) -> Person:
    return Person(
        name=name,
        crops=crops or (crop(seed, side_px=side_px), crop(seed + 1, side_px=side_px)),
        held_out=(crop(seed + 2, side_px=side_px),),
        template=embedding(seed),
        consent=Consent(
            who=name, given_by=f"{name} herself", purpose="tests", when=datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
        ),
    )


def verdict(who: str, kept: bool = True) -> Verdict:
    return Verdict(
        person=who,
        call=Call.SAME,
        likeness=0.7,
        likeness_given=0.75,
        likeness_before=None,
        copy_score=0.05,
        held_out=True,
        faces=1,
        face_share=0.4,
        sharpness=120.5,
        judge="dlib_resnet_v1",
        kept=kept,
        why="the best likeness",
    )


def portrait(id: str = "7-0000", people: tuple[str, ...] = ("Ada",)) -> Portrait:
    pixels = np.random.default_rng(len(id)).integers(0, 256, (32, 40, 3), np.uint8)
    slots = tuple(range(len(people)))
    recipe = {"engine": "template", "shot": {"seed": 7, "prompt": "a 笑"}, "seconds": 0.5}
    return Portrait(id=id, people=people, pixels=pixels, before_finish=None, slots=slots, recipe=recipe)


def keep(workspace: Workspace, run: Path, made: Portrait, format: str = "png") -> Path:
    def write(to: Path) -> None:
        Image.fromarray(made.pixels).save(to)

    return workspace.save_portrait(run, made, tuple(verdict(who) for who in made.people), format, write)


def files(folder: Path) -> set[str]:
    """Everything but what a workspace keeps about work under way."""
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return {path.as_posix() for path in found if path.name not in (".lock", ".staging", ".forgotten.json")}
