"""Every word shown, in English and Chinese, from one table; names of looks, traits and stages too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from facechain.ui import names_zh
from facechain.ui.phrase_table import PHRASES

LANGUAGES = ("en", "zh")  # in the order of a row of PHRASES


class _Counting(Formatter):
    """`{count:photo|photos}` becomes "1 photo" or "5 photos"."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if "|" not in format_spec:
            return super().format_field(value, format_spec)
        one, many = format_spec.split("|")
        return f"{value} {one if value == 1 else many}"


@dataclass(frozen=True, kw_only=True)
class Words:
    """The phrases of one language. What comes from files in English is given beside its name, and kept in English."""

    language: str = "en"

    def __call__(self, key: str, **values: object) -> str:
        """Raises KeyError for a phrase that is not in the table."""
        return _Counting().vformat(self.raw(key), (), values)

    def raw(self, key: str) -> str:
        """With its places left open."""
        return PHRASES[key][LANGUAGES.index(self.language)]

    def stage(self, stage: str) -> str:
        """What a job says that it does."""
        return self._named(names_zh.STAGES, stage, stage[:1].upper() + stage[1:])

    def tag(self, name: str) -> str:
        return self._named(names_zh.TAGS, name, name.replace("_", " ").capitalize())

    def value(self, value: str) -> str:
        """Of a tag."""
        return self._named(names_zh.VALUES, value, value)

    def advice(self, reason: str, english: str) -> str:
        return self._named(names_zh.ADVICE, reason, english)

    def note(self, note: Mapping[str, Any]) -> str:
        """On how a picture was read, as jobs tell it."""
        chinese = names_zh.NOTES.get(note["kind"], "") if self.language == "zh" else ""
        return chinese.format(detail=note["detail"]) or note["text"]

    def group(self, group: str) -> str:
        """Of styles."""
        return self._named(names_zh.GROUPS, group, group[:1].upper() + group[1:])

    def role(self, role: str) -> str:
        """Of a model."""
        return self._named(names_zh.ROLES, role, role)

    def style_title(self, id: str, english: str) -> str:
        return self._named(names_zh.STYLES, id, english)

    def engine_title(self, name: str, english: str) -> str:
        return self._named(names_zh.ENGINES, name, english)

    def engine_summary(self, name: str, english: str) -> str:
        return self._named(names_zh.ENGINE_SUMMARIES, name, english)

    def base_note(self, english: str) -> str:
        """What a base is, as its pack says."""
        return self._named(names_zh.BASE_NOTES, english, english)

    def _named(self, chinese: dict[str, str], id: str, english: str) -> str:
        return chinese.get(id, english) if self.language == "zh" else english
