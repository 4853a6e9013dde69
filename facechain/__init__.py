"""Photos become a person; an engine paints portraits; the judge keeps the true likenesses."""

__version__ = "0.1.0"
