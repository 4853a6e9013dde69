"""Rows of a table as spreadsheets and people write them: CSV in any encoding, JSON lines, Excel and OpenDocument.

Every row comes with its line, and its cells by column. What cannot be read for certain is refused with the line; what
had to be assumed is said.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from facechain.errors import ConfigError

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
LARGEST_BYTES = 64_000_000  # of a table; of a workbook also unpacked
_SEP = re.compile(r'"?sep=(.)"?\r?\n?')  # how Excel is told the delimiter
# Tried where a text is not UTF-8: what spreadsheets on Windows save as "CSV", by region.
_ENCODINGS = ["cp1252", "cp1250", "cp1251", "gb18030", "big5", "cp932", "cp949"]
_LATIN = ("cp1252", "cp1250")
_HIGH_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")


def wrong(file: Path, line: int, what: str) -> ConfigError:
    return ConfigError(f"{file.name}, line {line} {what}.", "Correct that line; nothing was made yet.")


def csv_rows(file: Path, encoding: str, say: Callable[[str], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells by column. Raises ConfigError for a quote never closed, and for columns that are named twice."""
    text = read_text(file, encoding, say)
    lines = io.StringIO(text, newline="").readlines()
    before = 0
    if lines and (told := _SEP.fullmatch(lines[0])):
        delimiter, before = told[1], 1
    else:
        delimiter = max(",;\t", key=(lines or [""])[0].count)
    reader = csv.reader(lines[before:], delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[str] | None = None
    start = before + 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise wrong(file, start, _said(error)) from None
        if columns is None:
            columns = _columns(file, start, cells)
        elif row := _row(file, start, columns, cells):
            yield start, row
        start = before + reader.line_num + 1


def workbook_rows(file: Path, say: Callable[[str], None]) -> Iterator[tuple[int, dict[str, str]]]:
    """As `csv_rows`, of a workbook's first sheet."""
    import python_calamine as calamine

    _check_size(file)
    try:
        with zipfile.ZipFile(file) as packed:
            unpacked = sum(part.file_size for part in packed.infolist())
    except (zipfile.BadZipFile, OSError):  # .xls is no zip
        unpacked = 0
    if unpacked > LARGEST_BYTES:
        raise ConfigError(f"{file.name} unpacks to {unpacked:,} bytes.", f"At most {LARGEST_BYTES:,} are read.")
    try:
        book = calamine.CalamineWorkbook.from_path(str(file))
        names = book.sheet_names
        sheet = book.get_sheet_by_index(0)
        rows: Iterable[list[Any]] = sheet.iter_rows()
        if len(names) > 1:
            say(f"{file.name} has {len(names)} sheets; the first, {names[0]!r}, is read.")
        columns: list[str] | None = None
        for number, values in enumerate(rows, 1):
            cells = [_cell(value) for value in values]
            if columns is None:
                columns = _columns(file, number, cells) if any(cells) else None
            elif row := _row(file, number, columns, cells):
                yield number, row
    except (calamine.CalamineError, OSError) as error:
        raise ConfigError(f"{file.name} cannot be read as a workbook: {error}.", "Save it anew, or as CSV.") from None


def json_rows(file: Path, encoding: str, say: Callable[[str], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and object. Raises ConfigError for what is no JSON object, and for keys that are named twice."""
    for number, line in enumerate(read_text(file, encoding, say).split("\n"), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line, object_pairs_hook=_unique)
        except _Twice as error:
            raise wrong(file, number, f"names {error.args[0]!r:.80} twice") from None
        except RecursionError:
            raise wrong(file, number, "is nested too deeply") from None
        except ValueError as error:
            raise wrong(file, number, f"is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise wrong(file, number, "is not a JSON object")
        yield number, given


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


def read_text(file: Path, encoding: str, say: Callable[[str], None]) -> str:
    """The file as text. In UTF-8, UTF-16 or UTF-32 where that is certain; else in the likeliest encoding, which is
    said. Raises ConfigError when it is no text, or not in the `encoding` given."""
    _check_size(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", "Check the path.") from error
    if data.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):
        raise ConfigError(f"{file.name} is a workbook, not text.", "Name it .xlsx (.xls, .ods), or save it as CSV.")
    found = encoding or _certain(data)
    if not found:
        found = _likely(data)
        if found:
            say(f"{file.name} is not UTF-8: it was read as {found}. If names look wrong, say --encoding NAME.")
    try:
        text = data.decode(found or "utf-8")
    except (UnicodeDecodeError, LookupError):
        how = f"is not text in {encoding!r}" if encoding else "is in no encoding known here"
        raise ConfigError(f"{file.name} {how}.", "Save it as UTF-8, or name its encoding: --encoding NAME.") from None
    if "\0" in text:
        raise wrong(file, text.count("\n", 0, text.index("\0")) + 1, "contains a NUL character")
    return text


def _check_size(file: Path) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.", "Check the path.") from error
    if size > LARGEST_BYTES:
        raise ConfigError(f"{file.name} has {size:,} bytes.", f"At most {LARGEST_BYTES:,} are read: split it.")


def _certain(data: bytes) -> str:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return encoding
    if data[:1] and data[1:2] == b"\0":
        return "utf-16-le"
    if data[:1] == b"\0" and data[1:2]:
        return "utf-16-be"
    try:
        data.decode()
    except UnicodeDecodeError:
        return ""
    return "utf-8"


def _likely(data: bytes) -> str:
    """By statistics. Short texts need a rule more: most words without any ASCII letter are of no Latin script."""
    import chardet

    words = _HIGH_WORD.findall(data)
    foreign = sum(len(word) > 1 and not re.search(rb"[A-Za-z]", word) for word in words) > len(words) / 2
    for among in ([name for name in _ENCODINGS if name not in _LATIN], _ENCODINGS) if foreign else (_ENCODINGS,):
        found = chardet.detect(data, include_encodings=among, no_match_encoding="ascii", compat_names=False)
        if text := _decoded(data, found["encoding"] or "ascii"):
            return next(name for name in _ENCODINGS if _decoded(data, name) == text)  # the commonest of equals
    return ""


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return ""


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


def _columns(file: Path, line: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = {name.casefold() for name in names if name and [n.casefold() for n in names].count(name.casefold()) > 1}
    if twice:
        raise wrong(file, line, f"names the column {sorted(twice)[0]!r} twice")
    return names


def _row(file: Path, line: int, columns: list[str], cells: list[str]) -> dict[str, str]:
    if extra := [cell for cell in cells[len(columns) :] if cell.strip()]:
        raise wrong(file, line, f"has more cells than there are columns: {extra}")
    found = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()}
    if "" in found:
        raise wrong(file, line, f"has {found['']!r:.80} in a column without a name")
    return found


class _Twice(Exception):
    """A name that an object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return dict(pairs)


def _cell(value: Any) -> str:
    """A workbook's value as it would stand in CSV."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def _said(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "opens a quote that is never closed"
    if "expected after" in text:
        return "has a quote inside a quoted cell, or one that is not closed: write it twice"
    if "field larger" in text:
        return f"has a cell of more than {csv.field_size_limit():,} characters"
    return f"is not CSV: {text}"
