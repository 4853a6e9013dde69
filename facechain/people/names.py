"""Names people may have, and the folder names made from them."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from facechain.errors import PersonError

_LONGEST = 80
# Windows keeps these for devices, in every folder and with any ending.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def safe_name(name: str) -> str:
    """The name with its spaces tidied, in any script.

    Raises PersonError when it is empty, too long, or could be taken for a path or an option.
    """
    tidy = " ".join(unicodedata.normalize("NFC", name).split())
    advice = "Use letters, digits and spaces, for example: Ada Lovelace."
    if not tidy:
        raise PersonError("The name is empty.", advice)
    if len(tidy) > _LONGEST:
        raise PersonError(f"The name has {len(tidy)} characters.", f"Use at most {_LONGEST}.")
    for character in tidy:
        if character in '/\\:*?"<>|' or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn"):
            raise PersonError(f"The name {tidy!r} contains {character!r}.", advice)
    if tidy[0] in ".-~" or tidy.endswith("."):
        raise PersonError(f"The name {tidy!r} begins or ends with a sign that folders treat specially.", advice)
    if not any(character.isalnum() for character in tidy):
        raise PersonError(f"The name {tidy!r} has no letter or digit.", advice)
    return tidy


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
