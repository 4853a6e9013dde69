"""Nothing is learned of a face without a statement of who agreed to what, and when."""

from __future__ import annotations

from datetime import UTC, datetime

from facechain.errors import ConsentMissing
from facechain.types import Consent

_LONGEST = 500


def consent(who: str, given_by: str, purpose: str, when: datetime | None = None) -> Consent:
    """A checked statement, dated now unless told otherwise. Raises ConsentMissing for what is left out."""
    made = Consent(who=who.strip(), given_by=given_by.strip(), purpose=purpose.strip(), when=when or datetime.now(UTC))
    return checked(made)


def checked(statement: Consent | None) -> Consent:
    """The same statement. Raises ConsentMissing when there is none, or it does not say who, by whom or what for."""
    if statement is None:
        raise ConsentMissing(
            "There is no consent for learning this face.", "Say who it is, who agrees (they or a guardian) and why."
        )
    for word, value in (("who", statement.who), ("given_by", statement.given_by), ("purpose", statement.purpose)):
        if not value.strip():
            raise ConsentMissing(f"The consent does not say {word!r}.", "Fill it in.")
        if len(value) > _LONGEST:
            raise ConsentMissing(f"The consent's {word!r} is over {_LONGEST} characters.", "Say it shorter.")
    if statement.when.tzinfo is None:
        raise ConsentMissing("The consent's time has no time zone.", "Give it in UTC.")
    if statement.when > datetime.now(UTC):
        raise ConsentMissing("The consent is dated in the future.", "Correct its date.")
    return statement
