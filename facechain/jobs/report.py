"""What became of a batch: a line an order, as CSV or JSON, rewritten as orders are finished."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from facechain import disk

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One order's; made = passed + not passed, asked = made + missed."""

    line: int
    people: str
    style: str
    engine: str
    seed: int
    asked: int
    made: int
    passed: int  # the judge says it is the same person, for everybody in the picture
    kept: int
    missed: int
    why: str  # what was wrong with those that did not pass or were missed
    folder: str


def default_path(file: Path) -> Path:
    """Beside what was asked: people.csv → people.report.csv."""
    return file.absolute().with_name(f"{file.absolute().stem if file.is_file() else file.absolute().name}.report.csv")


def write(path: Path, outcomes: Sequence[Outcome], batch: str = "") -> None:
    """Whole or not at all; JSON when the name ends so.

    `batch` names what a kill may leave, so that the same batch, of which one runs at a time, writes over it.
    """
    if path.suffix.lower() == ".json":
        text = json.dumps([asdict(outcome) for outcome in outcomes], indent=1, ensure_ascii=False)
    else:
        table = io.StringIO(newline="")
        rows = csv.DictWriter(table, [field.name for field in fields(Outcome)])
        rows.writeheader()
        for outcome in outcomes:
            rows.writerow({name: inert(value) for name, value in asdict(outcome).items()})
        text = table.getvalue()
    with disk.errors(path.parent, "--report"):
        part = path.with_name(f".{path.name}.{batch or os.getpid()}.part")
        disk.write(part, text.encode())
        disk.move(part, path)


def inert(value: object) -> object:
    """A cell that no spreadsheet runs: text that would be a formula gets an apostrophe in front, as OWASP advises."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def summary(outcomes: Sequence[Outcome]) -> str:
    asked, made, passed, kept, missed = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("asked", "made", "passed", "kept", "missed")
    )
    return f"{made} of {asked} portraits made, {passed} passed the judge, {kept} kept, {missed} missed."
