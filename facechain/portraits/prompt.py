"""Words for engines that read them: who is in the picture, then the look, then what was asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from facechain.types import Person, Request, Style

PERSON = "{person}"  # where a style's prompt wants the subject; without it the subject comes first
AGE = "{age}"  # where it wants the words its `ages` has for them

AGES: Mapping[str, str] = {"child": "a child", "teen": "a teenager", "adult": "an adult", "senior": "an elderly person"}
SOMEONE = "a person"
GROWN = ("adult", "senior")
DECENT = "nudity, revealing clothes"  # unwanted unless everybody is surely grown up


def words(request: Request, style: Style, people: Sequence[Person]) -> tuple[str, str]:
    """Prompt and negative prompt."""
    who = " and ".join(subject(person) for person in people) or SOMEONE
    ages = {trait(person, "age") for person in people}
    suited = style.ages.get(ages.pop() if len(ages) == 1 else "", style.ages.get("adult", ""))
    style = replace(style, prompt=style.prompt.replace(AGE, suited))
    look = style.prompt.replace(PERSON, who) if PERSON in style.prompt else _listed(who, style.prompt)
    decent = "" if all(trait(person, "age") in GROWN for person in people) else DECENT
    return _listed(look, request.prompt), _listed(style.negative, request.negative, decent)


def subject(person: Person) -> str:
    """The lasting traits most of the photos agree on; praise, gender and origin are nobody's business here."""
    length, colour = trait(person, "hair_length"), trait(person, "hair_colour")
    worn = [f"{' '.join(filter(None, (length, colour)))} hair"] if length or colour else []
    worn += ["glasses"] if trait(person, "glasses") == "yes" else []
    who = AGES.get(trait(person, "age"), SOMEONE)
    return f"{who} with {' and '.join(worn)}" if worn else who


def trait(person: Person, name: str) -> str:
    """The value with more than half of the confidence of all photos to learn from, or "" when none has.

    A photo that cannot tell votes for nothing but counts.
    """
    votes: dict[str, float] = defaultdict(float)
    for crop in person.crops:
        for tag in crop.tags:
            if tag.name == name and tag.value != "unknown":
                votes[tag.value] += tag.confidence
    best = max(votes, key=lambda value: votes[value], default="")
    return best if best and votes[best] > len(person.crops) / 2 else ""


def _listed(*parts: str) -> str:
    return ", ".join(filter(None, (part.strip().strip(",") for part in parts)))
