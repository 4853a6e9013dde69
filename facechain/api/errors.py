"""Every refusal as JSON {error, what, next_step}, with the HTTP status of a table one can read."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from facechain import errors
from facechain.errors import FaceChainError

# The first class an error belongs to decides.
STATUSES: tuple[tuple[type[FaceChainError], int], ...] = (
    (errors.PersonMissing, 404),
    (errors.PersonExists, 409),
    (errors.PersonForgotten, 409),
    (errors.Missing, 404),
    (errors.Conflict, 409),
    (errors.Busy, 503),
    (errors.ConsentMissing, 422),
    (errors.SignerUnknown, 409),  # compare the fingerprint, then ask again
    (errors.PackMissing, 409),  # fetch it, then ask again
    (errors.HashMismatch, 502),
    (errors.StoreError, 507),
    (errors.Cancelled, 409),
    (errors.UserError, 422),
    (FaceChainError, 500),
)

# What HTTP itself refuses, in the same words.
SENTENCES: dict[int, tuple[str, str, str]] = {
    400: ("BadRequest", "The request cannot be read.", "See /docs for what is expected."),
    401: ("TokenMissing", "This server asks for a token.", "Send it as Authorization: Bearer TOKEN."),
    403: ("Forbidden", "This is not allowed.", "See /docs."),
    404: ("NotFound", "There is nothing here.", "See /docs for what there is."),
    405: ("MethodNotAllowed", "This cannot be done here.", "See /docs for what can."),
    409: ("Conflict", "It clashes with what is already there.", "See /docs."),
    413: ("TooLarge", "The request is larger than this server takes.", "Send fewer or smaller files."),
    415: ("WrongMediaType", "The request is of a kind not expected here.", "See /docs for the kind."),
    422: ("InvalidRequest", "The request does not fit.", "See /docs for what is expected."),
}

ANYWHERE = (400, 401, 403, 422)

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_log = logging.getLogger("facechain.api")


class Problem(BaseModel):
    """Why something was refused, and what to do."""

    error: str
    what: str
    next_step: str
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": "PersonMissing",
                "what": "There is no 'ada' in the workspace.",
                "next_step": "See the list of people, or add them.",
            }
        }
    )


def responses(*statuses: int, stream: bool = False) -> dict[int | str, dict]:
    """For a route's documentation; those of `ANYWHERE` need not be named.

    `stream`: the route answers in another form, its refusals are JSON all the same.
    """
    every = sorted({*statuses, *ANYWHERE})
    said = {status: SENTENCES[status][1] if status in SENTENCES else HTTPStatus(status).phrase for status in every}
    form = {"content": {"application/json": {"schema": _PROBLEM}}} if stream else {"model": Problem}
    return {status: {"description": what, **form} for status, what in said.items()}


def status_of(error: FaceChainError) -> int:
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def problem(status: int, error: str, what: str, next_step: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = Problem(error=error, what=what, next_step=next_step).model_dump()
    return JSONResponse(body, status_code=status, headers=headers)


def refusal(status: int, what: str = "", next_step: str = "", error: str = "") -> JSONResponse:
    """The standing sentence of a status, or a closer one."""
    name, usual, usually = SENTENCES.get(status, ("HTTPError", HTTPStatus(status).phrase, "See /docs."))
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return problem(status, error or name, what or usual, next_step or usually, headers)


def install(app: FastAPI) -> None:
    app.add_exception_handler(FaceChainError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unforeseen)


def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FaceChainError)
    status = status_of(error)
    if status >= 500:
        _log.error("%s %s: %s", request.method, request.url.path, error)
    return problem(status, type(error).__name__, error.what, error.next_step)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, e['loc'][1:])) or e['loc'][0]}: {e['msg']}" for e in error.errors()[:5]]
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return refusal(400, "The body is not valid JSON.")
    return refusal(422, "; ".join(said) + ".")


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    # Only what was wrong with a form is worth more than the standing sentence.
    closer = error.detail if error.status_code == 400 and error.detail != HTTPStatus.BAD_REQUEST.phrase else ""
    answer = refusal(error.status_code, closer and f"{closer.rstrip('.')}.")
    answer.headers.update(error.headers or {})
    return answer


def _gone(request: Request, error: Exception) -> JSONResponse:
    """Nobody reads this; a client that leaves amid its request is nothing to log at length."""
    return refusal(400, "The request broke off.")


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    _log.exception("%s %s", request.method, request.url.path, exc_info=error)
    return problem(500, "OurFault", "Something went wrong on our side, sorry.", "The server's log says what.")
