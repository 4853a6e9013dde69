"""TOML into frozen values; a key we do not know is refused by name, with the nearest one we do."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import logging
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from facechain.errors import ConfigError, UserError
from facechain.types import Style


def read_toml(path: Path) -> dict[str, Any]:
    """Raises ConfigError naming the file and line when it is not TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing.", "Restore it from the repository.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply.", "Correct it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML in UTF-8: {error}.", "Correct that line.") from None


REPEATED = ("lora",)  # settings that may be given several times; all of them count


def settings(pairs: Iterable[str]) -> dict[str, Any]:
    """["strength=0.8"] to {"strength": 0.8}: values are read as JSON where they are, a repeated `lora` as a list.

    Raises UserError for a text without "=", and for another name given twice.
    """
    made: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name:
            raise UserError(f"{pair!r} is not a setting.", "Write name=value, for example strength=0.8")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if name not in made:
            made[name] = value
        elif name in REPEATED:
            made[name] = [*(made[name] if isinstance(made[name], list) else [made[name]]), value]
        else:
            raise UserError(f"{name} is given twice: {made[name]!r} and {value!r}.", "Leave one of them out.")
    return made


log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_CROP_SIDE_PX = 4096


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """A dataclass from a mapping; nested dataclasses and tuples of them are built too.

    Raises ConfigError for unknown keys, missing keys and wrong types.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(fields))}."
            raise ConfigError(f"{where} has the unknown key {key!r}.", hint)
    made = {}
    for name, field in fields.items():
        if name in values:
            made[name] = _convert(hints[name], values[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where} lacks {name!r}.", f"Add a line {name} = …")
    return cls(**made)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}.", "Expected a table.")
        return build(typing.cast(type, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} is {value!r}.", "Expected a list.")
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}.", "Expected a table.")
    if origin is not None or hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}.", f"Expected {hint.__name__}.")
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class App:
    """configs/app.toml."""

    workspace: str
    models: str
    reader: str
    judges: tuple[str, ...]
    engine: str
    base: str
    count: int
    keep: int
    crop_px: int
    hold_back: float
    unsafe_above: float


def read_app(configs: Path) -> App:
    """configs/app.toml, with the folders a person's environment names put in."""
    file = configs / "app.toml"
    changed_ns = file.stat().st_mtime_ns if file.exists() else 0
    return _app(file, changed_ns, os.environ.get("FACECHAIN_WORKSPACE", ""), os.environ.get("FACECHAIN_MODELS", ""))


@functools.lru_cache(maxsize=4)
def _app(file: Path, changed_ns: int, workspace: str, models: str) -> App:
    """A server asks at every request."""
    values = read_toml(file)
    for key, named in (("workspace", workspace), ("models", models)):
        values[key] = named or values.get(key, key)
    if "judge" in values:
        log.warning("%s: judge is now called judges, a list; the former name goes with the next release.", file)
        values.setdefault("judges", [values.pop("judge")])
        values.pop("judge", None)
    app = build(App, values, str(file))
    if not 0 < app.crop_px <= MOST_CROP_SIDE_PX:
        raise ConfigError(f"{file}: crop_px is {app.crop_px}.", f"Expected 1 to {MOST_CROP_SIDE_PX} pixels.")
    return app


def read_styles(configs: Path) -> dict[str, Style]:
    """Every look in configs/styles, by id; the id is the file's name."""
    files = sorted((configs / "styles").glob("*.toml"))
    return {path.stem: _style(path, path.stat().st_mtime_ns) for path in files}


@functools.lru_cache(maxsize=1024)
def _style(path: Path, changed_ns: int) -> Style:
    """Read once, and again when it has changed: every user's studio has them."""
    return build(Style, {"id": path.stem, **read_toml(path)}, str(path))
