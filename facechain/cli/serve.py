"""facechain serve"""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; others than this machine's need users.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 7860,
    name: Annotated[
        list[str] | None, typer.Option(help="A host name the server is reached by, e.g. faces.example.org.")
    ] = None,
    auth: Annotated[bool, typer.Option("--auth", help="Ask for tokens even on this machine.")] = False,
    api_only: Annotated[bool, typer.Option("--api-only", help="Leave the browser app out.")] = False,
    workers: Annotated[bool, typer.Option(help="Start workers for the jobs, unless some live.")] = True,
) -> None:
    """Run the server: the browser app, and the API under /v1, described at /docs. Long work goes on in workers."""
    if api_only:
        from facechain.api.server import run
    else:
        from facechain.ui.serve import run

    run(
        host=host,
        port=port,
        names=tuple(name or ()),
        auth=auth,
        workers=workers,
        say=lambda line: print(line, flush=True),
    )
