"""Verdicts as they come back from a job's record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facechain.types import Call, Verdict


def verdict_of(values: Mapping[str, Any]) -> Verdict:
    return Verdict(**{**values, "call": Call(values["call"])})
