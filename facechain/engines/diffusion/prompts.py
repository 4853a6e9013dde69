"""A style's words for one person."""

from __future__ import annotations

import re
from collections.abc import Mapping

AGES = ("child", "teen", "adult", "senior")
_SOMEBODY = re.compile(r"\{person\}|\b(?:a person|a child|a teenager|an adult|an elderly person)\b")
_NOUNS = {"child": "child", "teen": "teenager", "adult": "person", "senior": "elderly person"}


def noun(age: str) -> str:
    """What a person of this age is called; "person" when it is not known."""
    return _NOUNS.get(age, "person")


def fill(prompt: str, subject: str, age: str = "", ages: Mapping[str, str] | None = None) -> str:
    """{person}, or the first words that stand for somebody, become the subject; {age} the words for that age.

    A prompt naming nobody begins with the subject.
    """
    words = ages or {}
    found = _SOMEBODY.search(prompt)
    if found:
        filled = prompt[: found.start()] + subject + prompt[found.end() :]
    else:
        filled = f"portrait photo of {subject}, {prompt}"
    filled = filled.replace("{person}", subject).replace("{age}", words.get(age, words.get("adult", "")))
    return ", ".join(part for part in (piece.strip() for piece in filled.split(",")) if part)
