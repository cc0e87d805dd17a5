"""Who sends a request, for the routes on which more depends on it than the project."""

from typing import Annotated

from fastapi import Depends, Request

from app.core.errors import Forbidden
from app.keys.repository import Caller


async def _caller(request: Request) -> Caller:
    return request.state.caller


def _operator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if not caller.operator:
        raise Forbidden(
            "Only the operator may do this, and this key belongs to a project. `policysplit keys create "
            "--operator` makes an operator's key."
        )
    return caller


Asking = Annotated[Caller, Depends(_caller)]
#: Raises Forbidden for everybody else.
Operator = Annotated[Caller, Depends(_operator)]
