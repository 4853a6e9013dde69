"""facechain people add | list | show | forget"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from facechain.cli.options import Json

app = typer.Typer(help="The people portraits are made of.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call the person.")],
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    consent_by: Annotated[str, typer.Option(help="Who agrees: the person themselves, or their guardian.")] = "",
    purpose: Annotated[str, typer.Option(help="What the portraits are for.")] = "",
    as_json: Json = False,
) -> None:
    """Learn a person from photos. Every photo is accepted, or rejected with a reason and advice."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    if sys.stdin.isatty() and not as_json:
        consent_by = consent_by or typer.prompt(f"Who agrees that {name}'s face is used (their name)")
        purpose = purpose or typer.prompt("What will the portraits be for")
    with show.progress(as_json) as tick:
        enrolled = studio().enrol(name, photos, consent_by=consent_by, purpose=purpose, tick=tick)
    if as_json:
        typer.echo(show.as_json(enrolled))
        return
    person = enrolled.person
    show.crops(person.crops, person.held_out, enrolled.rejections)
    typer.echo(f"\n{person.name}: {len(person.crops)} photos to learn from, {len(person.held_out)} kept for the judge.")
    typer.echo(f'Next: facechain make "{person.name}" --style astronaut')


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Everybody in the workspace."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    people = studio().people()
    if as_json:
        typer.echo(show.as_json(people))
    elif people:
        rows = [
            (p.name, p.photos, p.held_out, p.portraits, p.consent.given_by, f"{p.consent.when:%Y-%m-%d}")
            for p in people
        ]
        show.table("", ("person", "photos", "for the judge", "portraits", "consent by", "on"), rows)
    else:
        typer.echo("Nobody yet. Next: facechain people add NAME PHOTOS…")


@app.command("show")
def show_(name: str, as_json: Json = False) -> None:
    """One person's photos, tags, captions and consent."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    person = studio().person(name)
    if as_json:
        typer.echo(show.as_json(person))
        return
    show.crops(person.crops, person.held_out, ())
    agreed = person.consent
    typer.echo(f"\nConsent of {agreed.given_by} on {agreed.when:%Y-%m-%d} for: {agreed.purpose}")


@app.command()
def forget(
    name: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, as_json: Json = False
) -> None:
    """Delete a person: photos, everything learned, and every portrait that shows them."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    if not yes and not as_json:
        typer.confirm(f"Delete {name} with all photos and portraits?", abort=True)
    gone = studio().forget(name)
    typer.echo(
        show.as_json({"forgotten": name, "portraits": gone}) if as_json else f"{name} is forgotten ({gone} portraits)."
    )
