"""Writes sbom.cdx.json from requirements.lock: what is installed and what asks for it, as CycloneDX 1.6.

Only what the lock says, so the same lock gives the same file. The SHA-256 of each file stay in the lock: a package has
one file per platform, and CycloneDX's `hashes` are of a single file.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK, SBOM = ROOT / "requirements.lock", ROOT / "sbom.cdx.json"
PRODUCT = "facechain"
EXTRAS = ("setup", "dev", "diffusion", "lab", "cluster")  # as scripts/lock names them

_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^ ;]+)(?: ; ([^\\]*\S))? ?\\?$")
_HASH = re.compile(r"^    --hash=sha256:([0-9a-f]{64})(?: \\)?$")
_PARENT = re.compile(r"^    # {1,3}(?:via )?(\S.*)$")


@dataclass(kw_only=True)
class Pin:
    name: str
    version: str
    marker: str  # "" for everywhere
    sha256: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)  # packages, or "-r FILE" where it is asked for

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def read_lock(text: str) -> Iterator[Pin]:
    """Raises ValueError for a line that is not one of a lock with hashes."""
    pin = None
    for number, line in enumerate(text.splitlines(), 1):
        if found := _PIN.match(line):
            if pin is not None:
                yield pin
            pin = Pin(name=found[1], version=found[2], marker=found[3] or "")
        elif pin is not None and (found := _HASH.match(line)):
            pin.sha256.append(found[1])
        elif pin is not None and (found := _PARENT.match(line)):
            pin.parents += [found[1]] * (found[1] != "via" and found[1] not in pin.parents)
        else:
            raise ValueError(f"requirements.lock:{number}: not understood: {line!r}")
    if pin is not None:
        yield pin


def sbom(lock: str, version: str) -> dict[str, Any]:
    """`scope` says whether the product itself needs a package, or only one of the extras does."""
    pins = list(read_lock(lock))
    needed = _needed(pins)
    product = {"type": "application", "bom-ref": PRODUCT, "name": PRODUCT, "version": version}
    refs: dict[str, list[str]] = {PRODUCT: []} | {pin.purl: [] for pin in pins}
    for pin in pins:
        for parent in pin.parents:
            owners = [PRODUCT] if parent.startswith("-r ") else [p.purl for p in pins if p.name == parent.split("[")[0]]
            for owner in owners:
                refs[owner].append(pin.purl)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, lock)}",
        "version": 1,
        "metadata": {"component": {**product, "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": [
            {
                "type": "library",
                "bom-ref": pin.purl,
                "name": pin.name,
                "version": pin.version,
                "scope": "required" if pin.name in needed else "optional",
                "purl": pin.purl,
                **({"properties": [{"name": "facechain:marker", "value": pin.marker}]} if pin.marker else {}),
            }
            for pin in pins
        ],
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in refs.items()],
    }


def _needed(pins: list[Pin]) -> set[str]:
    """Names of what requirements.txt asks for, and of what those ask for."""
    found = {"-r requirements.txt"}
    while more := {pin.name for pin in pins if {p.split("[")[0] for p in pin.parents} & found} - found:
        found |= more
    return found


def written(lock: str) -> str:
    version = re.search(r'__version__ = "(.+)"', (ROOT / PRODUCT / "__init__.py").read_text("utf-8"))
    assert version is not None
    return json.dumps(sbom(lock, version[1]), indent=1) + "\n"


if __name__ == "__main__":
    SBOM.write_text(written(LOCK.read_text("utf-8")), "utf-8")
