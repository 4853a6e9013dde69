"""Why one source could not help. These stay inside packs: the next source may do better."""


class SourceFailed(Exception): ...


class Unreachable(SourceFailed):
    """Nobody answers at that address."""


class WrongBytes(SourceFailed):
    """The bytes are not the promised ones."""

    def __init__(self, what: str, expected: str, got: str) -> None:
        super().__init__(f"{what} has sha256 {got}, expected {expected}")
