"""The web application: the gate, /v1 and its documentation. The browser app is mounted into it by `facechain.ui`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel

from facechain import __version__, bootstrap
from facechain.api import auth, docs, errors, incoming, jobs, looks, packs, people, photos, portraits
from facechain.api.gate import Gate
from facechain.api.lookout import Lookout
from facechain.errors import UserError

JSON_BYTES = 256 * 1024  # larger than any request of ours that carries no files


def create_app(*, local: bool = True, names: tuple[str, ...] = ()) -> FastAPI:
    """`local`: only this machine can reach the server, so that it asks for tokens only once there are users.

    `names` are the host names it may be called by besides localhost and addresses.
    """
    users = bootstrap.users()
    app = FastAPI(
        title="FaceChain",
        version=__version__,
        description=docs.INTRODUCTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=incoming.MOST_BYTES,  # of anything mounted beside /v1, too
        form_limits={"max_fields": 20, "max_files": incoming.MOST_FILES, "max_part_size": 4096},
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(
        Gate,
        who=users.who,
        closed=lambda: not local or bool(users.list()),
        names=names,
        json_bytes=JSON_BYTES,
        file_bytes=incoming.MOST_BYTES,
    )
    app.state.lookout = Lookout(lambda ids: bootstrap.jobs().look(ids))
    errors.install(app)
    v1 = APIRouter(prefix="/v1", max_body_size=JSON_BYTES, dependencies=[Depends(auth.bearer), Depends(_known_query)])
    for part in (people, photos, looks, jobs, portraits, packs, incoming):
        v1.include_router(part.router)
    v1.add_api_route("/me", me, tags=["server"], methods=["GET"], responses=errors.responses())
    app.include_router(v1)
    known = [Depends(_known_query)]
    app.add_api_route("/v1/health", health, tags=["server"], dependencies=known, responses=errors.responses())
    app.include_router(docs.router)
    return app


def _known_query(request: Request) -> None:
    """A misspelt filter would otherwise vanish, and everything be shown."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise UserError(f"There is no parameter {name!r} here.", f"Known: {', '.join(known) or 'none'}.")


class Health(BaseModel):
    version: str


class Me(BaseModel):
    user: str
    """Slug of the user; empty for who sits at the machine."""


def health() -> Health:
    """Whether the server answers, and its version. Needs no token."""
    return Health(version=__version__)


def me(whose: auth.Owner) -> Me:
    """Whose token this is."""
    return Me(user=whose)
