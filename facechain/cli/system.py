"""facechain styles, engines, doctor and demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facechain.cli.options import Json
from facechain.errors import UserError


def styles(as_json: Json = False) -> None:
    """Every look in configs/styles."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    known = studio().styles()
    if as_json:
        typer.echo(show.as_json(known))
        return
    show.table(
        "",
        ("style", "title", "paints", "licence"),
        [(s.id, s.title, "into a picture" if s.template_pack else "freely", s.licence) for s in known],
    )


def engines(
    name: Annotated[str, typer.Argument(help="An engine whose options are listed, as --set takes them.")] = "",
    base: Annotated[str, typer.Option(help="As they are on this base: folder, .safetensors file or pack.")] = "",
    as_json: Json = False,
) -> None:
    """Every engine: what it needs, costs and allows, and whether it can run here; or the options of one."""
    from facechain.bootstrap import studio
    from facechain.cli import show

    known = studio().engines(base)
    if name:
        known = [offer for offer in known if offer.card.name == name]
        if not known:
            raise UserError(f"There is no engine {name!r}.", "See `facechain engines`.")
    if name and not as_json:
        show.table(known[0].card.title, ("option", "expected", "default", "meaning"), known[0].card.params.rows())
        return
    if as_json:
        typer.echo(show.as_json(known))
        return
    show.cards(known)


def doctor(as_json: Json = False) -> None:
    """Check this machine: Python, packages, models, disk, workspace; every finding with what to do."""
    from facechain.cli import show
    from facechain.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(show.as_json(findings))
    else:
        for finding in findings:
            typer.echo(
                f"{'ok  ' if finding.ok else 'TODO'} {finding.what}{'' if finding.ok else ' ' + finding.next_step}"
            )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(2)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/demo"),
    as_json: Json = False,
) -> None:
    """The whole way on real photos: enrol, make, judge; writes portraits, a contact sheet and a table."""
    from facechain.bootstrap import fetch_packs, studio
    from facechain.cli import progress, show
    from facechain.demo import run

    with progress.downloads(as_json) as tick:
        fetch_packs((), "core", tick)
        fetch_packs((), "demo", tick)
    with progress.progress(as_json) as tick:
        shown = run(studio(), out, tick)
    if as_json:
        typer.echo(show.as_json(shown))
        return
    show.verdicts(shown.portraits)
    if shown.painted:
        typer.echo("\nThe same person, painted by the small model trained on rendered people that comes along:")
        show.verdicts(shown.painted)
    typer.echo("\nThe same judge on pictures that do not show the person:")
    show.verdicts(shown.strangers)
    typer.echo(f"\n{shown.summary}\nContact sheet: {shown.sheet}\nNext: facechain people add NAME PHOTOS…")
