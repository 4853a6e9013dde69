"""facechain photos check"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facechain.cli.options import Json

app = typer.Typer(help="Photos, before anybody is learned from them.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Keeps `photos` a group although it has one command."""


@app.command()
def check(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    sort: Annotated[bool, typer.Option("--sort", help="Sort a mixed album into persons.")] = False,
    as_json: Json = False,
) -> None:
    """Say of every photo whether it can be used, and if not, why and what would help."""
    from facechain.bootstrap import studio
    from facechain.cli import progress, show

    with progress.progress(as_json) as tick:
        if sort:
            album = studio().sort_album(photos, tick)
        else:
            checked = studio().check_photos(photos, tick)
    if sort:
        typer.echo(show.as_json(album)) if as_json else show.album(album)
    elif as_json:
        typer.echo(show.as_json(checked))
    else:
        show.crops(checked.crops, (), checked.rejections)
