"""One grammar of traits: tags become a sentence, and the sentence becomes the same tags again.

    portrait photo of a teenager, smiling, wearing glasses, plain light background

The first part names the age, every other trait adds one phrase. A language is one `Grammar`: a table from trait and
value to a phrase without a comma, no phrase twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from facechain.errors import PhotoError
from facechain.photos.tags import UNKNOWN
from facechain.types import Tag


@dataclass(frozen=True, kw_only=True)
class Grammar:
    opening: str  # comes before the subject
    someone: str  # the subject when the age is unknown
    subjects: Mapping[str, str]  # age → subject
    phrases: Mapping[str, Mapping[str, str]]  # trait → value → phrase, in the order they are said


ENGLISH = Grammar(
    opening="portrait photo of",
    someone="a person",
    subjects={"child": "a child", "teen": "a teenager", "adult": "an adult", "senior": "an elderly person"},
    phrases={
        "expression": {
            "neutral": "neutral expression",
            "smile": "smiling",
            "laugh": "laughing",
            "open mouth": "mouth open",
            "surprise": "surprised",
            "eyes closed": "eyes closed",
        },
        "pose": {
            "frontal": "facing the camera",
            "half left": "turned slightly left",
            "half right": "turned slightly right",
            "left": "turned left",
            "right": "turned right",
            "up": "looking up",
            "down": "looking down",
        },
        "glasses": {"yes": "wearing glasses"},
        "hair_length": {"short": "short hair", "medium": "chin-length hair", "long": "long hair"},
        "hair_colour": {
            "black": "black hair",
            "brown": "brown hair",
            "blond": "blond hair",
            "red": "red hair",
            "grey": "grey hair",
            "white": "white hair",
        },
        "background": {
            "plain light": "plain light background",
            "plain dark": "plain dark background",
            "busy light": "busy light background",
            "busy dark": "busy dark background",
        },
    },
)
GRAMMARS: Mapping[str, Grammar] = {"en": ENGLISH}


def traits(tags: Iterable[Tag], floor: float = 0.5) -> dict[str, str]:
    """Trait → value of what is known with at least `floor` confidence."""
    return {tag.name: tag.value for tag in tags if tag.value != UNKNOWN and tag.confidence >= floor}


def describe(known: Mapping[str, str], grammar: Grammar = ENGLISH) -> str:
    """The sentence. Raises PhotoError for a trait or value the grammar has no words for."""
    unsaid = set(known) - {"age"} - set(grammar.phrases)
    if unsaid:
        raise PhotoError(f"There are no words for {sorted(unsaid)[0]!r}.", f"Known: age, {', '.join(grammar.phrases)}.")
    subject = _word(grammar.subjects, "age", known["age"]) if "age" in known else grammar.someone
    phrases = [_word(words, name, known[name]) for name, words in grammar.phrases.items() if name in known]
    return ", ".join([f"{grammar.opening} {subject}", *phrases])


def understand(sentence: str, grammar: Grammar = ENGLISH) -> dict[str, str]:
    """The traits a sentence of `describe` came from. Raises PhotoError for any other sentence."""
    start, *phrases = sentence.split(", ")
    subjects = {f"{grammar.opening} {words}": age for age, words in grammar.subjects.items()}
    if start not in subjects and start != f"{grammar.opening} {grammar.someone}":
        raise PhotoError(f"The caption begins with {start!r}.", f"Expected: {grammar.opening} {grammar.someone}.")
    meanings = {phrase: (name, value) for name, words in grammar.phrases.items() for value, phrase in words.items()}
    known = {"age": subjects[start]} if start in subjects else {}
    for phrase in phrases:
        if phrase not in meanings:
            raise PhotoError(f"The caption says {phrase!r}.", "Use the words of facechain/photos/caption.py.")
        name, value = meanings[phrase]
        if name in known:
            raise PhotoError(f"The caption gives {name!r} twice.", "Keep one of them.")
        known[name] = value
    return known


def _word(words: Mapping[str, str], name: str, value: str) -> str:
    if value not in words:
        raise PhotoError(f"There are no words for {name} = {value!r}.", f"Known: {', '.join(words)}.")
    return words[value]
