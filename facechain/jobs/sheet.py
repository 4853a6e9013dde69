"""What a batch is to make, read from a table of CSV or JSON lines, or from a folder with a folder of photos a person.

A line asks for people × styles, `count` portraits of each. In CSV a cell holds several people or styles with ";"
between them, and people joined by "+" share one picture.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from facechain.config import build, read_toml, settings
from facechain.errors import ConfigError, FaceChainError

CONSENT = "consent.toml"  # in a person's folder of photos: by, purpose
ALIASES = {"person": "people", "style": "styles"}
NUMBERS = ("count", "keep", "seed")


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


def read(file: Path, given: Defaults) -> tuple[Order, ...]:
    """Raises ConfigError, naming the line, for what cannot be understood; nothing has been made then."""
    if file.is_dir():
        lines = list(_folder(file))
    elif file.suffix.lower() in (".jsonl", ".ndjson"):
        lines = list(_jsonl(file))
    elif file.suffix.lower() in (".csv", ".tsv"):
        lines = list(_csv(file))
    else:
        raise ConfigError(f"{file} is not a batch.", "Give a .csv or .jsonl file, or a folder of photo folders.")
    if not lines:
        raise ConfigError(f"{file} asks for nothing.", "Give it a line, or a folder of photos, for each person.")
    seen: Counter[str] = Counter()
    orders = []
    for number, line in lines:
        for people in line.people:
            for style in line.styles or given.styles or ("",):
                order = _order(number, line, people, style, given, file.absolute())
                key = _key(order, given.seed)
                # The same line twice asks for twice as many pictures, not for the same ones again.
                orders.append(_settled(order, f"{key}/{seen[key]}"))
                seen[key] += 1
    return tuple(orders)


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


def _csv(file: Path) -> Iterator[tuple[int, Line]]:
    with _opened(file) as text:
        head = text.readline()
        text.seek(0)
        rows = csv.DictReader(text, delimiter=max(",;\t", key=head.count), skipinitialspace=True)
        for row in rows:
            if extra := row.pop(None, None):  # type: ignore[call-overload]
                raise _wrong(file, rows.line_num, f"has more cells than there are columns: {extra}")
            cells = {str(name).strip(): value.strip() for name, value in row.items() if value and value.strip()}
            if cells:
                yield rows.line_num, _line(file, rows.line_num, _typed(file, rows.line_num, cells))


def _jsonl(file: Path) -> Iterator[tuple[int, Line]]:
    with _opened(file) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                given = json.loads(line)
            except ValueError as error:
                raise _wrong(file, number, f"is not JSON: {error}") from None
            if not isinstance(given, dict):
                raise _wrong(file, number, "is not a JSON object")
            values: dict[str, Any] = {ALIASES.get(str(n), str(n)): v for n, v in given.items() if v is not None}
            for name in ("people", "styles"):
                if isinstance(values.get(name), str):
                    values[name] = [values[name]]
            if isinstance(values.get("people"), list):
                values["people"] = ["+".join(map(str, p)) if isinstance(p, list) else p for p in values["people"]]
            yield number, _line(file, number, values)


def _folder(file: Path) -> Iterator[tuple[int, Line]]:
    """Each folder in it is a person; without a consent.toml they are not enrolled."""
    homes = sorted(home for home in file.iterdir() if home.is_dir() and not home.name.startswith("."))
    for number, home in enumerate(homes, 1):
        agreed = Consent(by="", purpose="")
        if (home / CONSENT).is_file():
            agreed = build(Consent, read_toml(home / CONSENT), str(home / CONSENT))
        yield number, Line(people=(home.name,), photos=home.name, consent_by=agreed.by, purpose=agreed.purpose)


def _typed(file: Path, number: int, cells: Mapping[str, str]) -> dict[str, Any]:
    """Cells as the values they stand for."""
    values: dict[str, Any] = {ALIASES.get(name, name): value for name, value in cells.items()}
    for name in ("people", "styles"):
        if name in values:
            values[name] = [part.strip() for part in values[name].split(";") if part.strip()]
    for name in NUMBERS:
        if name in values:
            try:
                values[name] = int(values[name])
            except ValueError:
                raise _wrong(file, number, f"says {name} {values[name]!r}, which is no whole number") from None
    if "settings" in values:
        try:
            values["settings"] = settings(filter(str.strip, values["settings"].split(";")))
        except FaceChainError as error:
            raise _wrong(file, number, f"says settings {values['settings']!r}: {error.what.rstrip('.')}") from None
    return values


def _line(file: Path, number: int, values: Mapping[str, Any]) -> Line:
    try:
        line = build(Line, values, f"{file.name}, line {number}")
    except FaceChainError:
        raise
    for name in NUMBERS:
        value = getattr(line, name)
        if value is not None and value < (0 if name == "seed" else 1):
            raise _wrong(file, number, f"says {name} {value}")
    if not line.people or not all(people.strip() for people in line.people):
        raise _wrong(file, number, "names nobody")
    return line


def _opened(file: Path):
    try:
        return file.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", "Check the path.") from error


def _wrong(file: Path, number: int, what: str) -> ConfigError:
    return ConfigError(f"{file.name}, line {number} {what}.", "Correct that line; nothing was made yet.")


def people(orders: Sequence[Order]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for order in orders for name in order.people))
