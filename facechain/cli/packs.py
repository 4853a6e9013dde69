"""facechain packs list | fetch | verify | licences"""

from __future__ import annotations

from typing import Annotated

import typer

from facechain.cli.options import Json

app = typer.Typer(help="Models and demo photos: what is here, how large, under which licence.", no_args_is_help=True)
Ids = Annotated[list[str] | None, typer.Argument(help="Pack ids; all when none is given.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Every pack, and whether it is here and verified."""
    from facechain.bootstrap import open_packs
    from facechain.cli import show

    statuses = open_packs().list()
    if as_json:
        typer.echo(show.as_json(statuses))
        return
    rows = [
        (s.id, s.role, show.size(s.bytes), "yes" if s.present else "no", s.verified, s.licence, s.commercial)
        for s in statuses
    ]
    show.table("", ("pack", "role", "size", "here", "verified", "licence", "commercial"), rows)


@app.command()
def fetch(
    ids: Ids = None,
    for_: Annotated[str, typer.Option("--for", help="A set: core, demo or tests.")] = "",
    as_json: Json = False,
) -> None:
    """Fetch packs and verify them. Without ids: what the product needs to run."""
    from facechain.bootstrap import fetch_packs
    from facechain.cli import progress, show

    with progress.downloads(as_json) as tick:
        statuses = fetch_packs(ids or (), for_, tick)
    if as_json:
        typer.echo(show.as_json(statuses))
    else:
        typer.echo(f"{len(statuses)} packs are here, {show.size(sum(s.bytes for s in statuses))}.")


@app.command()
def verify(ids: Ids = None, as_json: Json = False) -> None:
    """Hash every file again and compare with the manifest."""
    from facechain.bootstrap import open_packs
    from facechain.cli import progress, show

    packs = open_packs()
    chosen = ids or [s.id for s in packs.list() if s.present]
    with progress.downloads(as_json) as tick:
        statuses = [packs.verify(id, tick) for id in chosen]
    if as_json:
        typer.echo(show.as_json(statuses))
    else:
        show.table("", ("pack", "verified"), [(s.id, s.verified) for s in statuses])


@app.command()
def licences(ids: Ids = None, as_json: Json = False) -> None:
    """What each pack allows, and what all of them together allow."""
    from facechain.bootstrap import open_packs
    from facechain.cli import show

    packs = open_packs()
    chosen = ids or list(packs.manifests)
    each = {id: packs.pack(id).licence for id in chosen}
    together = packs.licences(chosen)
    if as_json:
        typer.echo(show.as_json({"packs": each, "together": together}))
        return
    show.table(
        "", ("pack", "licence", "commercial", "text"), [(i, k.name, k.commercial, k.url) for i, k in each.items()]
    )
    typer.echo(f"\nTogether: commercial use {together.commercial}.")
