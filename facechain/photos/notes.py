"""The remarks a picture collects on its way in, in English; `facechain.ui.names_zh.NOTES` has them in Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from facechain.types import Note, NoteKind

TEXTS: Mapping[NoteKind, str] = {
    NoteKind.TURNED: "Turned {detail}° clockwise, so that the face is upright.",
    NoteKind.OTHER_FORMAT: "Read as {detail}, which the file contains despite its name.",
    NoteKind.LATER_FRAME: "Frame {detail} is used, the first that shows a face.",
    NoteKind.RAW_PREVIEW: "The preview embedded in the RAW file is used ({detail} pixels).",
}


def note(kind: NoteKind, detail: object) -> Note:
    return Note(kind=kind, detail=str(detail), text=TEXTS[kind].format(detail=detail))
