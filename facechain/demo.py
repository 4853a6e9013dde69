"""The whole way on real photos: official portraits as the person, public-domain pictures as templates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from facechain.photos.read import read
from facechain.portraits.export import contact_sheet
from facechain.protocols import Tick, silent
from facechain.studio import Result, Studio
from facechain.types import Call, Request

NAME, STRANGER = "Demo Person", "Demo Stranger"
CONSENT_BY, PURPOSE = "publisher of the photos", "demonstration with published official portraits"


@dataclass(frozen=True, kw_only=True)
class Shown:
    portraits: tuple[Result, ...]  # judged against the person they were made of
    strangers: tuple[Result, ...]  # pictures of somebody else, judged against the person
    sheet: Path
    summary: str


def run(studio: Studio, out: Path, tick: Tick = silent) -> Shown:
    """Paints a person and a stranger into the same pictures and has the judge tell them apart."""
    photos = studio.tools.packs.folder / "demo-photos"
    stranger_photo = photos / "biden.jpg"
    known = {person.name for person in studio.people()}
    if NAME not in known:
        mine = sorted(photos.glob("obama*.jpg"))
        studio.enrol(NAME, mine, consent_by=CONSENT_BY, purpose=PURPOSE, tick=tick)
    if STRANGER not in known:
        studio.enrol(STRANGER, [stranger_photo], consent_by=CONSENT_BY, purpose=PURPOSE, tick=tick)

    folder = out / "portraits"
    ask = Request(people=(NAME,), engine="template", count=6, keep=6, seed=1)
    astronaut = studio.make(Request(**{**vars(ask), "style": "astronaut"}), out=folder, tick=tick)
    office = studio.make(Request(**{**vars(ask), "seed": 2}), template=stranger_photo, out=folder, tick=tick)
    strange = studio.make(
        Request(people=(STRANGER,), engine="template", style="astronaut", count=6, keep=6, seed=3), tick=tick
    )
    others = [stranger_photo, *(result.path for result in strange.results)]
    portraits, strangers = (*astronaut.results, *office.results), studio.judge(others, NAME, tick)

    cells = [(read(result.path).pixels, _caption(result)) for result in (*portraits, *strangers)]
    sheet = out / "contact-sheet.png"
    Image.fromarray(contact_sheet(cells)).save(sheet)
    same = sum(result.verdicts[0].call is Call.SAME for result in portraits)
    taken_in = sum(result.verdicts[0].call is Call.SAME for result in strangers)
    summary = (
        f"The judge calls {same} of {len(portraits)} portraits the same person, "
        f"and {taken_in} of {len(strangers)} pictures of a stranger."
    )
    return Shown(portraits=portraits, strangers=strangers, sheet=sheet, summary=summary)


def _caption(result: Result) -> str:
    verdict = result.verdicts[0]
    likeness = "–" if verdict.likeness is None else f"{verdict.likeness:.3f}"
    return f"{verdict.call.value}, {likeness}\n{result.id}"
