"""Names people may have, and the folder names made from them."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from facechain.errors import PersonError

_LONGEST = 80
_JOINERS = "\u200c\u200d"  # ZWNJ, ZWJ
# Windows keeps these for devices, in every folder and with any ending.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def safe_name(name: str) -> str:
    """The name with its spaces tidied, in any script, with the joiners that Persian, Sinhala and others write.

    Raises PersonError when it is empty, too long, or could be taken for a path or an option.
    """
    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    advice = "Use letters, digits and spaces, for example: Ada Lovelace."
    if not tidy:
        raise PersonError("The name is empty.", advice)
    if len(tidy) > _LONGEST:
        raise PersonError(f"The name has {len(tidy)} characters.", f"Use at most {_LONGEST}.")
    for place, character in enumerate(tidy):
        if character in _JOINERS and _joins(tidy, place):
            continue
        if character in '/\\:*?"<>|' or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn"):
            raise PersonError(f"The name {tidy!r} contains {character!r}.", advice)
    if tidy[0] in ".-~":
        raise PersonError(f"The name {tidy!r} begins with a sign that folders treat specially.", advice)
    if not any(character.isalnum() for character in tidy):
        raise PersonError(f"The name {tidy!r} has no letter or digit.", advice)
    return tidy


def _joins(name: str, place: int) -> bool:
    """Whether a joiner changes how the name is written: after a virama, or between letters of an Arabic script.

    Elsewhere it is invisible, and two names that look the same would be two people (RFC 5892, appendix A, is stricter).
    """
    before, after = name[place - 1 : place], name[place + 1 : place + 2]
    if not before:
        return False
    virama = unicodedata.combining(before) == 9
    return virama or (unicodedata.bidirectional(before) == "AL" and unicodedata.bidirectional(after or " ") == "AL")


def slug(name: str) -> str:
    """A folder name of a-z, 0-9 and "-", at most 49 characters, different for different names.

    Raises PersonError as `safe_name` does.
    """
    name = safe_name(name)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    if words == name and words not in _RESERVED:
        return words
    # Something was lost on the way ("Zoë" and "Zoe"), so a piece of the name's digest tells them apart.
    return f"{words or 'person'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
