"""What a batch is to make, read from a table, or from a folder with one folder of photos per person.

A line asks for people × styles, `count` portraits of each. A cell holds several people or styles with ";"
between them, and people joined by "+" share one picture.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from facechain.config import build, read_toml, settings
from facechain.disk import is_system
from facechain.errors import ConfigError, UserError
from facechain.jobs import table
from facechain.jobs.table import wrong
from facechain.limits import BATCH_ORDERS, BATCH_PORTRAITS, PORTRAITS, SEED, check_options, prompt, text, whole

CONSENT = "consent.toml"  # in a person's folder of photos: by, purpose
ALIASES = {"person": "people", "name": "people", "style": "styles"}
NUMBERS = {"count": (1, PORTRAITS), "keep": (1, PORTRAITS), "seed": (0, SEED)}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table; what it leaves out is as the command says."""

    people: tuple[str, ...]
    styles: tuple[str, ...] = ()
    count: int | None = None
    keep: int | None = None
    engine: str = ""
    base: str = ""
    template: str = ""
    prompt: str = ""
    negative: str = ""
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    photos: str = ""  # to enrol them from, if they are not there yet
    consent_by: str = ""
    purpose: str = ""


@dataclass(frozen=True, kw_only=True)
class Consent:
    """consent.toml"""

    by: str
    purpose: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """One sitting: these people, together in a picture, in one style."""

    line: int  # in the table, or of the folder
    people: tuple[str, ...]
    style: str
    count: int
    keep: int | None
    engine: str
    base: str
    template: str
    prompt: str
    negative: str
    seed: int
    settings: Mapping[str, Any]
    photos: str
    consent_by: str
    purpose: str
    run: str  # names the folder of its portraits: the same order finds it again


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """For lines that do not say."""

    styles: tuple[str, ...] = ()
    count: int = 4
    engine: str = ""
    seed: int = 0


def read(
    file: Path, given: Defaults, say: Callable[[str], None] = lambda line: None, encoding: str = ""
) -> tuple[Order, ...]:
    """What a table or folder asks for. `say` hears what was assumed; `encoding`, of text, is guessed when empty.

    Raises ConfigError, naming the line, for what cannot be understood; nothing has been made then.
    """
    whole("count", given.count, 1, PORTRAITS)
    whole("seed", given.seed, 0, SEED)
    seen: Counter[str] = Counter()
    orders: list[Order] = []
    portraits = 0
    for number, line in _lines(file, say, encoding):
        for people in line.people:
            for style in line.styles or given.styles or ("",):
                order = _order(number, line, people, style, given, file.absolute())
                key = _key(order, given.seed)
                # The same line twice asks for twice as many pictures, not for the same ones again.
                orders.append(_settled(order, f"{key}/{seen[key]}"))
                seen[key] += 1
                portraits += order.count
                if len(orders) > BATCH_ORDERS or portraits > BATCH_PORTRAITS:
                    raise ConfigError(
                        f"{file.name} asks for more than {BATCH_ORDERS:,} sittings or {BATCH_PORTRAITS:,} portraits.",
                        "Split it into several batches.",
                    )
    if not orders:
        raise ConfigError(f"{file} asks for nothing.", "Give it a line, or a folder of photos, for each person.")
    return tuple(orders)


def _lines(file: Path, say: Callable[[str], None], encoding: str) -> Iterator[tuple[int, Line]]:
    kind = file.suffix.lower()
    if file.is_dir():
        return _folder(file)
    if kind in (".jsonl", ".ndjson"):
        return _jsonl(file, table.json_rows(file, encoding, say))
    if kind in (".csv", ".tsv"):
        return _table(file, table.csv_rows(file, encoding, say))
    if kind in table.WORKBOOKS:
        return _table(file, table.workbook_rows(file, say))
    raise ConfigError(
        f"{file} is not a batch.", "Give a .csv, .jsonl, .xlsx or .ods file, or a folder of photo folders."
    )


def _order(number: int, line: Line, people: str, style: str, given: Defaults, file: Path) -> Order:
    home = file if file.is_dir() else file.parent
    values = {name: getattr(line, name) for name in ("keep", "base", "prompt", "negative", "settings")}
    return Order(
        **values,
        line=number,
        people=tuple(name.strip() for name in people.split("+")),
        style=style,
        count=given.count if line.count is None else line.count,
        engine=line.engine or given.engine,
        template=str(home / line.template) if line.template else "",
        photos=str(home / line.photos) if line.photos else "",
        seed=-1 if line.seed is None else line.seed,
        consent_by=line.consent_by,
        purpose=line.purpose,
        run="",
    )


def _key(order: Order, seed: int) -> str:
    """Everything that decides what the pictures look like; how many there are to be may change later."""
    outside = ("line", "count", "keep", "photos", "consent_by", "purpose", "run", "template")
    values = {name: value for name, value in asdict(order).items() if name not in outside}
    values["template"] = hashlib.sha256(Path(order.template).read_bytes()).hexdigest() if _is_file(order) else ""
    return hashlib.sha256(json.dumps([values, seed], sort_keys=True).encode()).hexdigest()


def _is_file(order: Order) -> bool:
    return bool(order.template) and Path(order.template).is_file()


def _settled(order: Order, key: str) -> Order:
    digest = hashlib.sha256(key.encode()).digest()
    seed = int.from_bytes(digest[:4], "big") if order.seed < 0 else order.seed
    return replace(order, seed=seed, run=f"batch-{digest.hex()[:16]}")


# ── the three forms ──────────────────────────────────────────────────────────────────────────────


def _table(file: Path, rows: Iterable[tuple[int, Mapping[str, str]]]) -> Iterator[tuple[int, Line]]:
    for number, cells in rows:
        yield number, _line(file, number, _typed(file, number, _named(file, number, cells)))


def _jsonl(file: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Line]]:
    for number, given in rows:
        values = _named(file, number, {name: value for name, value in given.items() if value is not None})
        for name in ("people", "styles"):
            if isinstance(values.get(name), str):
                values[name] = [values[name]]
        if isinstance(values.get("people"), list):
            values["people"] = ["+".join(map(str, p)) if isinstance(p, list) else p for p in values["people"]]
        yield number, _line(file, number, values)


def _folder(file: Path) -> Iterator[tuple[int, Line]]:
    """Each folder in it is a person; without a consent.toml they are not enrolled."""
    homes = sorted(home for home in file.iterdir() if home.is_dir() and not is_system(home.name))
    for number, home in enumerate(homes, 1):
        agreed = Consent(by="", purpose="")
        if (home / CONSENT).is_file():
            agreed = build(Consent, read_toml(home / CONSENT), str(home / CONSENT))
        yield number, Line(people=(home.name,), photos=home.name, consent_by=agreed.by, purpose=agreed.purpose)


def _named(file: Path, number: int, cells: Mapping[str, Any]) -> dict[str, Any]:
    """Cells by our names of the columns, however a spreadsheet writes them. Raises ConfigError for one named twice."""
    values: dict[str, Any] = {}
    for column, value in cells.items():
        plain = column.strip().casefold().replace(" ", "_")
        name = ALIASES.get(plain, plain)
        if name in values:
            raise wrong(file, number, f"names {name!r:.80} twice")
        values[name] = value
    return values


def _typed(file: Path, number: int, values: dict[str, Any]) -> dict[str, Any]:
    """Cells as the values they stand for."""
    for name in ("people", "styles"):
        if name in values:
            values[name] = [part.strip() for part in values[name].split(";") if part.strip()]
    for name in NUMBERS:
        if name in values:
            try:
                values[name] = int(values[name])
            except ValueError:
                raise wrong(file, number, f"says {name} {values[name]!r}, which is no whole number") from None
    if "settings" in values:
        try:
            values["settings"] = settings(filter(str.strip, values["settings"].split(";")))
        except UserError as error:
            raise wrong(file, number, f"says settings {values['settings']!r:.200}: {error.what.rstrip('.')}") from None
    return values


def _line(file: Path, number: int, values: Mapping[str, Any]) -> Line:
    line = build(Line, values, f"{file.name}, line {number}")
    if not line.people or not all(people.strip() for people in line.people):
        raise wrong(file, number, "names nobody")
    try:
        for name, (least, most) in NUMBERS.items():
            if (value := getattr(line, name)) is not None:
                whole(name, value, least, most)
        for name in ("prompt", "negative"):
            prompt(name, getattr(line, name))
        for name in ("engine", "base", "template", "photos", "consent_by", "purpose"):
            text(name, getattr(line, name))
        for name in (*line.people, *line.styles):
            text("A name", name)
        check_options(line.settings)
    except UserError as error:
        raise ConfigError(f"{file.name}, line {number}: {error.what}", error.next_step) from None
    return line


def people(orders: Sequence[Order]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for order in orders for name in order.people))
