"""Settings by name: what an engine or a training can be told, said without loading it, and checked before any work.

A dataclass of settings is the source: `options_of` reads its fields, whose ranges and choices are annotations.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from facechain.errors import EngineError

KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting, as people write it: --set name=value."""

    name: str
    kind: str  # one of KINDS' values, "list" or "picture"
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    file: bool = False  # names a file or folder
    several: bool = False  # may be a list
    canvas: bool = False  # only where a picture is painted into

    @property
    def expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(filter(None, self.choices))}"
        kind = f"a {self.kind}" if "number" in self.kind else self.kind
        if self.least is not None and self.most is not None:
            return f"{kind} from {self.least:g} to {self.most:g}"
        return kind if self.least is None else f"{kind}, {self.least:g} or more"


@dataclass(frozen=True, kw_only=True)
class Field:
    """Annotates a field of a settings dataclass with what `Option` says of it."""

    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    file: bool = False
    several: bool = False
    picture: bool = False  # an image, given by a flag of its own and not by --set
    internal: bool = False  # filled in by the program


Share: TypeAlias = Annotated[float, Field(least=0, most=1)]
Scale: TypeAlias = Annotated[float, Field(least=0, most=5)]
Steps: TypeAlias = Annotated[int, Field(least=1, most=200)]
Guidance: TypeAlias = Annotated[float, Field(least=0, most=30)]
Photos: TypeAlias = Annotated[int, Field(least=1, most=100)]
Picture: TypeAlias = Annotated[Any, Field(picture=True)]
File: TypeAlias = Annotated[str, Field(file=True)]


def options_of(cls: type) -> tuple[Option, ...]:
    """The settings a dataclass holds, in the order of its fields."""
    hints = typing.get_type_hints(cls, include_extras=True)
    made = []
    for field in dataclasses.fields(cls):
        bare, *extra = typing.get_args(hint) if hasattr(hint := hints[field.name], "__metadata__") else (hint,)
        said = next((one for one in extra if isinstance(one, Field)), Field())
        if said.internal:
            continue
        made.append(
            Option(
                name=field.name,
                kind="picture" if said.picture else KINDS.get(bare, "list"),
                least=said.least,
                most=said.most,
                choices=said.choices,
                file=said.file,
                several=said.several,
            )
        )
    return tuple(made)


def check(given: Mapping[str, Any], known: Iterable[Option], title: str, onto_canvas: bool = True) -> None:
    """Raises EngineError, naming the setting, for one that `title` does not have or a value it cannot take.

    `onto_canvas`: whether a picture is painted into.
    """
    options = {option.name: option for option in known}
    for name, value in given.items():
        if (option := options.get(name)) is None:
            near = difflib.get_close_matches(name, options, n=1)
            usual = sorted(o.name for o in options.values() if o.kind != "picture")
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(usual) or 'none'}."
            raise EngineError(f"{title} has no setting {name!r}.", hint)
        if option.canvas and not onto_canvas:
            raise EngineError(f"{title} reads {name} only when it paints into a picture.", "Add a template.")
        if option.kind == "picture":
            raise EngineError(f"{name} is a picture, not a value.", "Give it with --start, --mask or --pose.")
        for one in value if option.several and isinstance(value, list | tuple) else (value,):
            if not _fits(one, option):
                raise EngineError(f"{name} is {one!r:.80}.", f"Give {option.expected}.")
            if option.file and one and not _there(one, weighted=option.several):
                raise EngineError(f"There is no {one!r:.200}, which {name} names.", "Check the path.")


def _there(file: str, weighted: bool) -> bool:
    """Whether it exists; what may be given several times may end in a weight, as FILE:0.8."""
    try:
        return Path(file).exists() or (weighted and Path(file.rpartition(":")[0] or file).exists())
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False


def _fits(value: Any, option: Option) -> bool:
    match option.kind:
        case "true or false":
            return value in (0, 1)  # True and False, too
        case "number" | "whole number":
            right = isinstance(value, int if option.kind == "whole number" else int | float)
            least, most = option.least, option.most
            return (
                right
                and not isinstance(value, bool)
                and math.isfinite(value)
                and (least is None or value >= least)
                and (most is None or value <= most)
            )
        case "text":
            return isinstance(value, str) and (not option.choices or value in option.choices)
        case _:
            return isinstance(value, list | tuple)
