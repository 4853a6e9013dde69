"""Typed engine parameters: a misspelt or impossible one is refused by name, before anything is loaded or learned."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from facechain.errors import EngineError
from facechain.types import Photo

log = logging.getLogger(__name__)

# A picture that was read; JSON, and so --set and the API, cannot hold one: a request names its file instead.
Picture: TypeAlias = Annotated[InstanceOf[Photo], WithJsonSchema({"type": "string", "format": "binary"})]


def _there(path: str) -> str:
    try:
        found = not path or Path(path).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        found = False
    if not found:
        raise EngineError(f"There is no {path!r:.200}.", "Check the path.")
    return path


def _weighted_there(path: str) -> str:
    """FILE, or FILE:0.8 for less of it; a file's own name may hold colons."""
    for file in (path.rpartition(":")[0], path):
        with contextlib.suppress(EngineError):
            if file:
                _there(file)
                return path
    return _there(path)


File: TypeAlias = Annotated[str, AfterValidator(_there)]  # a file or folder that exists; empty: none
WeightedFile: TypeAlias = Annotated[str, AfterValidator(_weighted_there)]


class EngineParams(BaseModel):
    """What an engine can be asked for beyond the request's own fields; each field has a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # former name → name: accepted for one release, with a notice
    renamed: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, options: Mapping[str, Any], engine: str, unsupported: Mapping[str, str] | None = None) -> Self:
        """`options` as parameters of `engine`, whose title the messages use.

        `unsupported` maps parameters the engine cannot honour to the reason; they may only keep their default.
        Raises EngineError that names the parameter, what was expected and the nearest known name.
        """
        given = {name: value for name, value in cls.current_names(options).items() if value is not None}
        for name in given:
            if name not in cls.model_fields:
                raise EngineError(f"{engine} has no option {name!r}.", cls._suggestion(name))
        try:
            made = cls.model_validate(given)
        except ValidationError as error:
            raise EngineError(*_explained(error)) from None
        for name, reason in (unsupported or {}).items():
            if getattr(made, name) != cls.model_fields[name].get_default(call_default_factory=True):
                raise EngineError(f"{engine} cannot use {name}: {reason}.", f"Leave {name} out.")
        return made

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(cls.model_fields)

    @classmethod
    @functools.cache
    def json_schema(cls) -> Mapping[str, Any]:
        """JSON schema: names, ranges, defaults and descriptions. Made once: a server is asked for it often."""
        return cls.model_json_schema()

    @classmethod
    def rows(cls) -> list[tuple[str, str, str, str]]:
        """Name, what is expected, default and description of each parameter that can be written as text."""
        fields = cls.json_schema()["properties"].items()
        return [
            (name, _expected(field), _shown(field.get("default")), field.get("description", ""))
            for name, field in fields
            if "binary" not in str(field)
        ]

    @classmethod
    def _suggestion(cls, name: str) -> str:
        near = difflib.get_close_matches(name, (*cls.model_fields, *cls.renamed), n=1)
        if not near:
            return f"Known: {', '.join(cls.model_fields)}."
        return f"Did you mean {cls.renamed.get(near[0], near[0])!r}?"

    @classmethod
    def current_names(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` with former names replaced; a notice tells of each, once."""
        given = dict(options)
        for former, name in cls.renamed.items():
            if former in given:
                _notice(former, name)
                given.setdefault(name, given.pop(former))
        return given


@functools.cache
def _notice(former: str, name: str) -> None:
    """Once per process: options are read for every picture."""
    log.warning("The option %s is now called %s; the former name goes with the next release.", former, name)


@functools.cache
def with_choices(params: type[EngineParams], name: str, choices: tuple[str, ...]) -> type[EngineParams]:
    """The same parameters, of which `name` takes one of these choices only; unchanged where there is no such name."""
    if name not in params.model_fields:
        return params
    known = params.model_fields[name]
    narrowed: Any = (Literal[choices], Field(default=known.default, description=known.description))
    return create_model(params.__name__, __base__=params, **{name: narrowed})


def _expected(field: Mapping[str, Any]) -> str:
    """Of a JSON schema: "0 to 1", "fp32, bf16", "text" …"""
    if "anyOf" in field:
        return next(_expected(one) for one in field["anyOf"] if one.get("type") != "null")
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "minimum" in field and "maximum" in field:
        return f"{field['minimum']:g} to {field['maximum']:g}"
    kinds = {"boolean": "true or false", "number": "a number", "integer": "a number", "array": "a list"}
    return kinds.get(str(field.get("type")), "text")


def _shown(default: Any) -> str:
    if default is None or default in ("", [], {}):
        return "–"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _explained(error: ValidationError) -> tuple[str, str]:
    """What came, and what was expected, of the first mistake."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "is_instance_of":
        return f"{name} is {first['input']!r:.80}, not a picture.", "Give it with --start, --mask or --pose."
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    given = first["input"]
    shown = f"{given:g}" if isinstance(given, float) else f"{given!r}"
    return f"{name} is {shown[:80]}.", f"Expected {expected}."
