"""The server with the browser app: on this machine alone, for users with tokens, or as a hosted Space."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

from facechain import bootstrap
from facechain.api import server
from facechain.ui import splash
from facechain.ui.sessions import Sessions, hosted, sweep_guests

SWEEP_S = 600.0


def run(*, host: str, port: int, names: tuple[str, ...], auth: bool, workers: bool, say: Callable[[str], None]) -> None:
    """Serves until stopped. Raises UserError when strangers could come in, or the port is taken."""
    guests = hosted()
    if guests:
        host, names = "0.0.0.0", (*names, os.environ.get("SPACE_HOST", ""))
    else:
        server.check_open(host, auth)
    listener = server.bind(host, port)
    local = server.is_local(host) and not auth
    say(f"Starting at {server.address(listener)} …")
    with splash.shown(listener):
        from facechain.api.app import create_app
        from facechain.ui.app import mount

        app = create_app(local=local, names=(*names, socket.gethostname()))
        users = bootstrap.users()
        sessions = Sessions(who=users.who, closed=lambda: not local or bool(users.list()), guests=guests)
        mount(app, sessions)
    if guests:
        _welcome(sessions)
    server.serve(app, listener, workers=workers, say=say)


def _welcome(sessions: Sessions) -> None:
    """A hosted Space starts empty: it fetches its models by itself, and forgets guests who have left."""
    packs = bootstrap.open_packs()
    if not all(packs.status(id).present for id in bootstrap.SETS["core"]):
        bootstrap.jobs().submit("fetch", {"set": "core"})
    if "astronaut" in packs.manifests and not packs.status("astronaut").present:
        bootstrap.jobs().submit("fetch", {"ids": ["astronaut"]})

    def sweep() -> None:
        while True:
            for guest in sweep_guests(bootstrap.workspace_folder() / "users", sessions.away_s):
                bootstrap.jobs().forget(guest)
            threading.Event().wait(SWEEP_S)

    threading.Thread(target=sweep, daemon=True).start()
