"""A style's words for one person."""

from __future__ import annotations

from collections.abc import Mapping

AGES = ("child", "teen", "adult", "senior")
_NOUNS = {"child": "child", "teen": "teenager", "adult": "person", "senior": "elderly person"}


def noun(age: str) -> str:
    """What a person of this age is called; "person" when it is not known."""
    return _NOUNS.get(age, "person")


def fill(prompt: str, subject: str, age: str = "", ages: Mapping[str, str] | None = None) -> str:
    """{person} becomes the subject and {age} the words for that age; a prompt naming nobody begins with the subject."""
    words = ages or {}
    if "{person}" not in prompt:
        prompt = f"portrait photo of {{person}}, {prompt}" if prompt.strip() else "portrait photo of {person}"
    filled = prompt.replace("{person}", subject).replace("{age}", words.get(age, words.get("adult", "")))
    return ", ".join(part for part in (piece.strip() for piece in filled.split(",")) if part)
