"""Every error a person can meet, in one tree.

    FaceChainError                 exit 1: internal error
    ├── UserError                  exit 2: the person can fix it
    │   ├── ConfigError            a TOML file says something we do not understand
    │   ├── PhotoError             a picture cannot be read or used
    │   ├── PersonError            who: too few photos, an unsafe name
    │   │   ├── PersonMissing      there is nobody of that name
    │   │   ├── PersonExists       there is already somebody of that name
    │   │   ├── PersonForgotten    they were forgotten while something about them was under way
    │   │   └── ConsentMissing     nothing is learned without a consent statement
    │   ├── TemplateError          the picture to paint into has no or too few faces
    │   ├── EngineError            an engine cannot do what was asked
    │   ├── PackError              a model is missing, wrong or not allowed
    │   │   ├── PackMissing        not fetched yet
    │   │   └── HashMismatch       bytes are not the ones the manifest promises
    │   ├── ArchiveError           an archive is damaged, changed or not for this passphrase
    │   │   ├── PassphraseMissing  it is encrypted
    │   │   └── SignerUnknown      signed with a key that is not trusted here
    │   ├── StoreError             the disk is full, read-only or the name is unsafe
    │   ├── Missing                there is no such job, portrait, style or upload
    │   ├── Conflict               it clashes with what is already there
    │   └── Busy                   too much is asked for at once
    └── Cancelled                  exit 130: somebody asked to stop

A message says what came, what was expected, and what to do next.
"""


class FaceChainError(Exception):
    """`what` happened, and the `next_step` a person can take."""

    exit_code = 1

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class UserError(FaceChainError):
    exit_code = 2


class ConfigError(UserError): ...


class PhotoError(UserError): ...


class PersonError(UserError): ...


class PersonMissing(PersonError): ...


class PersonExists(PersonError): ...


class PersonForgotten(PersonError): ...


class ConsentMissing(PersonError): ...


class TemplateError(UserError): ...


class EngineError(UserError): ...


class PackError(UserError): ...


class PackMissing(PackError): ...


class HashMismatch(PackError): ...


class ArchiveError(UserError): ...


class PassphraseMissing(ArchiveError):
    def __init__(self, next_step: str = "Give its passphrase.") -> None:
        super().__init__("The archive is encrypted.", next_step)


class SignerUnknown(ArchiveError):
    """`fingerprint` is that of the key it is signed with."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(
            f"The archive is signed with a key this workspace does not know: {fingerprint}.",
            "Compare it with what the sender's `facechain workspace key` prints; if they are equal, import it again"
            f" trusting this signer: --trust-signer {fingerprint} (trust_signer in the API).",
        )
        self.fingerprint = fingerprint


class StoreError(UserError): ...


class Missing(UserError): ...


class Conflict(UserError): ...


class Busy(UserError): ...


class Cancelled(FaceChainError):
    exit_code = 130

    def __init__(self, what: str = "Stopped as asked.", next_step: str = "Nothing half-done was kept.") -> None:
        super().__init__(what, next_step)
