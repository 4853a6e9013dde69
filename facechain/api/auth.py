"""Whose request this is."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from facechain import bootstrap
from facechain.studio import Studio

# For the documentation only: the gate has decided before a route is found.
bearer = HTTPBearer(auto_error=False, description="A token from `facechain users add NAME`.")


def owner(request: Request) -> str:
    """The slug of the user this request belongs to; "" for who sits at the machine."""
    return request.scope["state"]["owner"]


def studio(whose: Annotated[str, Depends(owner)]) -> Studio:
    return bootstrap.studio(whose)


Owner = Annotated[str, Depends(owner)]
MyStudio = Annotated[Studio, Depends(studio)]
