"""What a training left on its way: the curve of likeness and the pictures painted at each look."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Training:
    """The newest training of a person."""

    name: str  # of its folder
    points: tuple[tuple[int, float], ...]  # step, mean likeness by the coach
    samples: tuple[Path, ...]  # validation/step-000100/0.png …, oldest first
    best_step: int | None
    finished: bool


def newest_training(folder: Path) -> Training | None:
    """`folder` holds one folder a training. None when nothing was trained yet."""
    jobs = [sheet.parent for sheet in folder.glob("*/job.json")]
    if not jobs:
        return None
    home = max(jobs, key=lambda job: max(path.stat().st_mtime for path in (job, *job.glob("*"))))
    points = _points(home / "curve.json")
    return Training(
        name=home.name,
        points=points,
        samples=tuple(sorted((home / "validation").glob("step-*/*.png"))),
        best_step=max(points, key=lambda point: (point[1], -point[0]))[0] if points else None,
        finished=(home / "result" / "result.json").is_file(),
    )


def _points(curve: Path) -> tuple[tuple[int, float], ...]:
    try:
        return tuple((int(p["step"]), float(p["likeness"])) for p in json.loads(curve.read_bytes())["points"])
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or being written
        return ()
