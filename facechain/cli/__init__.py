"""The command line: parse, call one verb of the studio, show. Heavy imports wait until a command runs.

Exit codes: 0 done, 2 the person can fix it, 1 internal error, 130 stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from facechain import __version__, disk
from facechain.cli import batch, jobs, make, packs, people, photos, serve, system, users, workspace
from facechain.cli.text import plain
from facechain.errors import Cancelled, FaceChainError

app = typer.Typer(
    name="facechain",
    help="Portraits that are verified to be the person: photos in, judged portraits out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(people.app, name="people")
app.add_typer(photos.app, name="photos")
app.add_typer(packs.app, name="packs")
app.add_typer(jobs.app, name="jobs")
app.add_typer(users.app, name="users")
app.add_typer(workspace.app, name="workspace")
for command in (
    make.train,
    make.make,
    make.judge,
    batch.batch,
    system.styles,
    system.engines,
    system.doctor,
    system.demo,
    serve.serve,
):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"facechain {__version__}")
        raise typer.Exit


@app.callback()
def root(
    workspace: Annotated[str, typer.Option(help="Folder for people and portraits.")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Never open a network connection.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    if workspace:
        os.environ["FACECHAIN_WORKSPACE"] = workspace
    if offline:
        os.environ["FACECHAIN_OFFLINE"] = "1"


def main() -> None:
    disk.keep_private()
    sys.exit(guarded(lambda: app(standalone_mode=False)))


def guarded(run: Callable[[], object]) -> int:
    """Runs a command; every error becomes one line on stderr and an exit code."""
    from typer import Abort, BadParameter

    try:
        result = run()
        return result if isinstance(result, int) else 0
    except FaceChainError as error:
        print(f"facechain: {plain(error)}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        print(f"facechain: {Cancelled()}", file=sys.stderr)
        return Cancelled.exit_code
    except BadParameter as error:
        print(f"facechain: {plain(error.format_message())} See --help.", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if usage := getattr(error, "format_message", None):  # Typer's own usage errors
            print(f"facechain: {plain(usage())} See --help.", file=sys.stderr)
            return 2
        if os.environ.get("FACECHAIN_DEBUG"):
            raise
        name = type(error).__name__
        print(
            f"facechain: internal error: {name}: {plain(error)}. Run again with FACECHAIN_DEBUG=1 and report it.",
            file=sys.stderr,
        )
        return 1
