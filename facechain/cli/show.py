"""How the command line shows things: progress bars, tables, JSON, one-line errors."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facechain.cli.text import plain
from facechain.errors import UserError
from facechain.types import Crop, Note, Rejection

if TYPE_CHECKING:
    from facechain.studio import Album, Offer, Result


def as_json(value: Any) -> str:
    """Any of our values as JSON; pixels and embeddings are left out, they are not for reading."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_json_schema"):  # what an engine can be asked for
        return value.model_json_schema()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _plain(item) for name, item in pairs if not _is_array(item)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if not isinstance(value, type) and hasattr(value, "item") and not hasattr(value, "__len__"):
        return value.item()  # a numpy number
    return value


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape") and value.shape != ()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(plain(cell)) for cell in row))  # people's text is never markup
    Console(highlight=False).print(drawn)


def cards(offers: Sequence[Offer]) -> None:
    """What each engine needs, costs and allows, in lines no wider than the terminal."""
    import shutil
    import textwrap

    width = max(40, shutil.get_terminal_size().columns)
    for offer in offers:
        card = offer.card
        bases = " or ".join(_BASES[base] for base in card.bases)
        needs = [f"{card.min_photos} photos or more" if card.min_photos > 1 else "one photo"]
        needs += [bases] * bool(bases) + ["a picture to paint into"] * card.needs_canvas
        needs += [f"the models {', '.join(card.packs)}"] * bool(card.packs)
        costs = [f"learns {card.learns}"]
        besides = bool(bases) and not offer.base
        costs += [f"{size(offer.bytes)} of models{' besides the base' * besides}"] * bool(offer.bytes)
        costs += [f"size not known of {' and '.join(offer.unsized)}"] * bool(offer.unsized)
        rows = {
            "": card.summary,
            "needs": "; ".join(needs) + ".",
            "costs": "; ".join(costs) + ".",
            "allows": offer.allows,
            "on": f"{offer.base}. {offer.base_note}".strip() if offer.base else "",
            "here": "ready." if offer.state == "ready" else offer.state.removeprefix("needs: "),
        }
        print(f"{card.name}: {card.title}")
        for label, text in rows.items():
            if not text:
                continue
            start = f"    {label:<8}" if label else "    "
            lines = textwrap.wrap(
                text,
                width,
                initial_indent=start,
                subsequent_indent=" " * len(start),
                break_long_words=False,
                break_on_hyphens=False,
            )
            print("\n".join(lines))
        print()


_BASES = {"sd15": "a Stable Diffusion 1.5 base", "sdxl": "an SDXL base"}


def size(count: int) -> str:
    return "?" if not count else f"{count / 1e6:.1f} MB"


def numbers(text: str) -> tuple[int | None, ...]:
    """ "2,1" to (1, 0): people count faces from one. Raises UserError."""
    try:
        return tuple(int(part) - 1 for part in text.split(",")) if text else ()
    except ValueError:
        raise UserError(f"{text!r} is not a list of face numbers.", "Write for example --faces 2,1") from None


def sides(text: str) -> tuple[int | None, int | None]:
    """ "768x1024" to width and height; empty to neither. Raises UserError."""
    if not text:
        return None, None
    try:
        width, height = map(int, text.lower().split("x"))
    except ValueError:
        raise UserError(f"{text!r} is not a size.", "Write for example --size 768x1024") from None
    return width, height


def named_files(given: Sequence[str]) -> dict[str, Path]:
    """ "me.jpg" to {"": me.jpg}, "depth=map.png" to {"depth": map.png}."""
    made = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or Path(text).exists():
            name, file = "", text
        made[name] = Path(file)
    return made


@contextmanager
def remarks(logger: str) -> Iterator[None]:
    """What is told on the way, on stderr."""
    import logging

    told, handler = logging.getLogger(logger), logging.StreamHandler(sys.stderr)
    before = told.level
    told.addHandler(handler)
    told.setLevel(logging.INFO)
    try:
        yield
    finally:
        told.removeHandler(handler)
        told.setLevel(before)


def crops(accepted: Sequence[Crop], held_out: Sequence[Crop], rejections: Sequence[Rejection]) -> None:
    """One line a photo: what became of it."""
    rows = [(c.photo_name, "accepted", f"{c.quality:.2f}", _with_notes(c.caption, c.notes)) for c in accepted]
    rows += [(c.photo_name, "for the judge", f"{c.quality:.2f}", _with_notes(c.caption, c.notes)) for c in held_out]
    rows += [(r.photo_name, r.reason.value.replace("_", " "), "", _with_notes(r.advice, r.notes)) for r in rejections]
    table("", ("photo", "result", "quality", "what it shows, or what would help"), rows)


def _with_notes(text: str, notes: Sequence[Note]) -> str:
    return "\n".join((text, *(f"Note: {note.text}" for note in notes)))


def notes(pictures: Mapping[str, Sequence[Note]]) -> None:
    """One line a note, by file name."""
    for name, said in pictures.items():
        for note in said:
            print(plain(f"note on {name}: {note.text}"))


def album(persons: Album) -> None:
    for number, names in enumerate(persons.persons, 1):
        print(plain(f"person {number}: {', '.join(names)}"))
    if persons.left_out:
        print(plain(f"left out (too poor to tell who): {', '.join(persons.left_out)}"))
    notes(persons.notes)


def verdicts(results: Sequence[Result]) -> None:
    """One row per face: what the judge says of it; with the engine where several made the pictures."""
    engines = len({result.engine for result in results}) > 1
    rows = [
        (
            *((result.engine or "–",) if engines else ()),
            result.path.name,
            v.person,
            v.call.value,
            _number(v.llr, 1),
            _number(v.likeness),
            f"{v.closer} of {v.cohort}" if v.cohort else "–",
            _number(v.copy_score),
            v.why,
        )
        for result in results
        for v in result.verdicts
    ]
    columns = ("picture", "person", "judge says", "evidence", "likeness", "strangers as close", "copy", "why")
    table("", (*(("engine",) if engines else ()), *columns), rows)
    notes({result.path.name: result.notes for result in results})


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
