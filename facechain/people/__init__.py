"""Whose faces these are, and whether they may be learned."""
