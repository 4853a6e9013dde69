"""Text of people and files, made fit for a terminal."""

from __future__ import annotations

import unicodedata


def plain(text: object) -> str:
    """`text` without what a terminal would obey instead of show: control characters, and halves of characters that
    file names may hold and no output can."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c
        for c in str(text)
    )
