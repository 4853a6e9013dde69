"""A verdict's doubts in words, read from its fields."""

from __future__ import annotations

from facechain.judge.copying import COPY
from facechain.judge.judge import CLEAR
from facechain.judge.warp import WARPED
from facechain.types import Call, Verdict


def doubts(verdict: Verdict) -> list[str]:
    """What a person should know besides the verdict, the weightiest first; empty when there is no face or no doubt."""
    if verdict.likeness is None:
        return []
    told = []
    if verdict.call is Call.UNSURE:
        told.append("the judge is unsure")
        if verdict.closer:
            told.append(f"{lookalikes(verdict)} would pass too")
        elif verdict.recognisability is not None and verdict.recognisability < CLEAR:
            told.append("the face is too small, blurred or covered to be told apart surely")
    if verdict.disagree:
        told.append("the recognisers disagree")
    if verdict.warp is not None and verdict.warp >= WARPED:
        told.append("the features look warped")
    if verdict.copy_score is not None and verdict.copy_score > COPY:
        told.append("much liker to the given photos than to unseen ones, perhaps a copy")
    if not verdict.held_out:
        told.append("scored against given photos, too few to hold one back")
    return told


def lookalikes(verdict: Verdict) -> str:
    """ "1 in 40 strangers": how many of the cohort are as close as the person is."""
    return f"1 in {max(1, round(verdict.cohort / verdict.closer))} strangers"
