from packs_kit import hub, wheels

__all__ = ["hub", "wheels"]
