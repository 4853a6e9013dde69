"""The whole way on real photos: official portraits as the person, public-domain pictures as templates; and, painted
anew by the small model that comes with the program, from one photo and after a short training."""

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
STARTER = "starter"
PAINTERS = ("faceid", "instantid", "lora")
WORDS = "facing the camera, plain light background"
SMALL = "small model, trained on rendered people"
EFFORT = 1 / 3  # of the usual training
SHOTS = 4  # of each template: two photos of the person, each with two proportions of the face
CONSENT_BY, PURPOSE = "publisher of the photos", "demonstration with published official portraits"


@dataclass(frozen=True, kw_only=True)
class Shown:
    portraits: tuple[Result, ...]  # judged against the person they were made of
    painted: tuple[Result, ...]  # by the starter, judged against the same person
    strangers: tuple[Result, ...]  # pictures of somebody else, judged against the person
    sheet: Path
    summary: str


def run(studio: Studio, out: Path, tick: Tick = silent) -> Shown:
    """Paints a person and a stranger into the same pictures and has the judge tell them apart.

    Where the starter can run, it paints the person too; why it cannot is said in the summary.
    """
    photos = studio.tools.packs.folder / "demo-photos"
    stranger_photo = photos / "biden.jpg"
    known = {person.name for person in studio.people()}
    if NAME not in known:
        mine = sorted(photos.glob("obama*.jpg"))
        studio.enrol(NAME, mine, consent_by=CONSENT_BY, purpose=PURPOSE, tick=_named(tick, NAME))
    if STRANGER not in known:
        studio.enrol(STRANGER, [stranger_photo], consent_by=CONSENT_BY, purpose=PURPOSE, tick=_named(tick, STRANGER))

    folder = out / "portraits"
    ask = Request(people=(NAME,), engine="template", count=SHOTS, keep=SHOTS, seed=1)
    astronaut = studio.make(Request(**{**vars(ask), "style": "astronaut"}), out=folder, tick=_named(tick, "astronaut"))
    office = studio.make(
        Request(**{**vars(ask), "seed": 2}), template=stranger_photo, out=folder, tick=_named(tick, "office")
    )
    strange = studio.make(
        Request(people=(STRANGER,), engine="template", style="astronaut", count=2, keep=2, seed=3),
        tick=_named(tick, "a stranger"),
    )
    others = [stranger_photo, *(result.path for result in strange.results)]
    portraits, strangers = (*astronaut.results, *office.results), studio.judge(others, NAME, tick)

    missing = _missing(studio)
    small = [] if missing else painted(studio, NAME, folder, tick)

    cells = [(read(result.path).pixels, _caption(result)) for result in portraits]
    cells += [(read(result.path).pixels, f"{how}: {_verdict(result)}\n{SMALL}") for how, result in small]
    cells += [(read(result.path).pixels, _caption(result)) for result in strangers]
    sheet = out / "contact-sheet.png"
    Image.fromarray(contact_sheet(cells)).save(sheet)
    same = sum(result.verdicts[0].call is Call.SAME for result in portraits)
    taken_in = sum(result.verdicts[0].call is Call.SAME for result in strangers)
    summary = (
        f"The judge calls {same} of {len(portraits)} portraits the same person, "
        f"and {taken_in} of {len(strangers)} pictures of a stranger."
    )
    if missing:
        summary += f" The starter painted nothing: {missing}."
    by_starter = tuple(result for _, result in small)
    return Shown(portraits=portraits, painted=by_starter, strangers=strangers, sheet=sheet, summary=summary)


def _missing(studio: Studio) -> str:
    """Why the starter cannot paint here; empty when it can."""
    states = {offer.card.name: offer.state for offer in studio.engines(STARTER)}
    return next((states[engine] for engine in PAINTERS if states[engine] != "ready"), "")


def painted(studio: Studio, name: str, folder: Path, tick: Tick = silent) -> list[tuple[str, Result]]:
    """One portrait of a person by the starter for each engine it feeds, and that engine's name."""
    studio.train(name, STARTER, {"effort": EFFORT}, _named(tick, "LoRA training"))
    made = []
    for engine in PAINTERS:
        ask = Request(people=(name,), engine=engine, base=STARTER, prompt=WORDS, count=1, seed=4)
        made += [
            (engine, result) for result in studio.make(ask, out=folder / engine, tick=_named(tick, engine)).results
        ]
    return made


def _named(tick: Tick, what: str) -> Tick:
    """Stages by what they are for: the same ones come several times."""
    return lambda stage, done, total: tick(f"{what}: {stage}", done, total)


def _caption(result: Result) -> str:
    return f"{_verdict(result)}\n{result.id}"


def _verdict(result: Result) -> str:
    verdict = result.verdicts[0]
    likeness = "–" if verdict.likeness is None else f"{verdict.likeness:.3f}"
    return f"{verdict.call.value}, {likeness}"
