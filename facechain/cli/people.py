"""facechain people add | list | show | export | import | forget"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from facechain import disk
from facechain.cli.archives import Archive, Encrypt, Out, TrustSigner, new_passphrase, opened
from facechain.cli.options import Json
from facechain.cli.text import plain

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
    from facechain.cli import progress, show

    if sys.stdin.isatty() and not as_json:
        consent_by = consent_by or typer.prompt(f"Who agrees that {name}'s face is used (their name)")
        purpose = purpose or typer.prompt("What will the portraits be for")
    with progress.progress(as_json) as tick:
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

    people, damaged = studio().people(), studio().damaged_people()
    for one in damaged:
        typer.echo(plain(f"{one.what} {one.next_step}"), err=True)
    if as_json:
        typer.echo(show.as_json(people))
    elif people:
        rows = [
            (p.name, p.photos, p.held_out, p.portraits, p.consent.given_by, f"{p.consent.when:%Y-%m-%d}")
            for p in people
        ]
        show.table("", ("person", "photos", "for the judge", "portraits", "consent by", "on"), rows)
    elif not damaged:
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
def export(name: str, out: Out, encrypt: Encrypt = False, as_json: Json = False) -> None:
    """Write a person to one signed archive: consent, photos, trainings, and portraits that show nobody else."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show

    passphrase = new_passphrase(encrypt)
    with progress.downloads(as_json) as tick:
        size = disk.save(out, studio().export_person(name, passphrase, tick))
    told = {"archive": str(out), "bytes": size, "signer": studio().key_fingerprint()}
    typer.echo(show.as_json(told) if as_json else f"{out}: {show.size(size)}, signed with {told['signer']}.")


@app.command("import")
def import_(
    archive: Archive,
    name: Annotated[str, typer.Option(help="Another name than the person has in the archive.")] = "",
    trust_signer: TrustSigner = "",
    as_json: Json = False,
) -> None:
    """Add the person of an archive. One signed by another workspace is taken only with --trust-signer."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show

    with progress.downloads(as_json) as tick:
        imported = opened(
            archive,
            lambda file, passphrase: studio().import_person(
                file, name=name, passphrase=passphrase, trust_signer=trust_signer, tick=tick
            ),
        )
    if as_json:
        typer.echo(show.as_json(imported))
        return
    person = imported.person
    typer.echo(f"{person.name}: {person.photos + person.held_out} photos, {person.portraits} portraits.")
    typer.echo(f"Consent of {person.consent.given_by} on {person.consent.when:%Y-%m-%d} for: {person.consent.purpose}")


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
