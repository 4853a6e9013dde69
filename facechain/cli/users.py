"""facechain users add | list | renew | remove"""

from __future__ import annotations

from typing import Annotated

import typer

from facechain.cli.options import Json

app = typer.Typer(help="Who may use this machine's server; each sees only people and portraits of their own.")


@app.command()
def add(name: Annotated[str, typer.Argument(help="What to call the user.")], as_json: Json = False) -> None:
    """Let somebody in: prints a token, once."""
    from facechain.bootstrap import users
    from facechain.people.names import safe_name, slug

    _show_token(name, users().add(safe_name(name), slug(name)), as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Everybody who has a token. Tokens themselves are kept nowhere."""
    from facechain.bootstrap import users
    from facechain.cli import show

    known = users().list()
    if as_json:
        typer.echo(show.as_json(known))
    elif known:
        show.table("", ("user", "folder", "since"), [(u.name, f"users/{u.slug}", u.added) for u in known])
    else:
        typer.echo("No users: the server is for this machine alone. Next: facechain users add NAME")


@app.command()
def renew(name: str, as_json: Json = False) -> None:
    """A new token for a user; the old one stops working at once."""
    from facechain.bootstrap import users
    from facechain.people.names import slug

    _show_token(name, users().renew(slug(name)), as_json)


@app.command()
def remove(
    name: str,
    with_data: Annotated[bool, typer.Option("--with-data", help="Delete their people and portraits too.")] = False,
    as_json: Json = False,
) -> None:
    """Take a user's token away; their people and portraits stay unless --with-data is given."""
    from facechain.bootstrap import remove_user
    from facechain.cli import show
    from facechain.people.names import slug

    remove_user(slug(name), with_data)
    gone = "and everything of theirs is deleted" if with_data else "their data is kept"
    removed = show.as_json({"removed": slug(name), "with_data": with_data})
    typer.echo(removed if as_json else f"{name} has no token any more, {gone}.")


def _show_token(name: str, token: str, as_json: bool) -> None:
    from facechain.cli import show

    if as_json:
        typer.echo(show.as_json({"user": name, "token": token}))
    else:
        typer.echo(f"{token}\n\nThis is {name}'s token. It is shown once; send it with every request as")
        typer.echo("Authorization: Bearer TOKEN, or give it to the browser app when it asks.")
