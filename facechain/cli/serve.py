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
    workers: Annotated[bool, typer.Option(help="Start workers for the jobs, unless some live.")] = True,
) -> None:
    """Run the server: the API under /v1, described at /docs. Long work goes on in workers of its own."""
    import socket

    from facechain.api import server
    from facechain.api.app import create_app

    server.check_open(host)
    listener = server.bind(host, port)
    app = create_app(local=server.is_local(host), names=(*(name or ()), socket.gethostname()))
    server.run(app, listener, workers=workers, say=lambda line: print(line, flush=True))
