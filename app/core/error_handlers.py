"""Every error as a response: the one set of handlers."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError, TimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.core.errors import ApiError, BadRequest, InternalError, MethodNotAllowed, NotFound, Unavailable
from app.core.settings import get_settings
from app.core.validation import bad_request

_log = logging.getLogger("app")
# Codes of PostgreSQL's.
_QUERY_CANCELED, _LOCK_NOT_AVAILABLE = "57014", "55P03"


def install(app: FastAPI) -> None:
    """Answer everything that can go wrong in OpenAI's error shape."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _request_invalid)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(TimeoutError, _database_away)


def error_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


def unexpected(error: Exception, request_id: str) -> JSONResponse:
    """The response to an exception that nobody foresaw; the trace goes to the log alone."""
    _log.error("request %s failed", request_id, exc_info=error)
    return error_response(InternalError(request_id))


def database_away(request_id: str, error: Exception) -> JSONResponse:
    """The response while the database cannot be reached, or not in time; the cause goes to the log alone."""
    _log.error("request %s: the database failed: %s", request_id, error)
    return error_response(_database_error(error))


def _database_error(error: Exception) -> Unavailable:
    cause = getattr(error, "orig", None)
    state, text = getattr(cause, "sqlstate", None), str(cause)
    settings = get_settings()
    if state == _QUERY_CANCELED or text == "interrupted":
        return Unavailable(
            f"The database did not answer within {settings.database_statement_seconds:g} s. Request less: "
            "a smaller limit, a narrower filter, a shorter range.",
            code="database_timeout",
        )
    if state == _LOCK_NOT_AVAILABLE or text == "database is locked":
        return Unavailable(
            f"Another change has locked the rows this one needs for {settings.database_lock_seconds:g} s; "
            "try again.",
            code="database_locked",
        )
    if isinstance(error, TimeoutError):
        return Unavailable("All connections to the database are in use; try again.", code="database_busy")
    return Unavailable("The database does not answer; try again.", code="database_unavailable")


async def _api_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _request_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    # A location starts with where the field was: body, query, path or header.
    place = problems[0]["loc"][0]
    problems = [{**one, "loc": one["loc"][1:]} for one in problems if one["loc"][0] == place]
    if place == "body":
        field = getattr(request.scope.get("route"), "body_field", None)
        model = field.field_info.annotation if field is not None else None
        return error_response(bad_request(problems, error.body, model))
    given: dict[str, object] = {
        "query": dict(request.query_params),
        "path": request.path_params,
        "header": dict(request.headers),
    }.get(str(place), {})
    return error_response(bad_request(problems, given))


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        answer: ApiError = NotFound(
            f"{where} does not exist. The API is documented at /docs.", code="unknown_url"
        )
    elif error.status_code == 405:
        allowed = _allowed(request)
        answer = MethodNotAllowed(f"{where} is not allowed here; {allowed} is.", headers={"allow": allowed})
        return error_response(answer)
    else:
        answer = BadRequest(str(error.detail))
        return JSONResponse(answer.body(), error.status_code, headers=dict(error.headers or {}))
    answer.headers |= dict(error.headers or {})
    return error_response(answer)


def _allowed(request: Request) -> str:
    """The methods of every route with this path: the framework's own answer knows those of one of them.

    Of ``…/jobs/validate`` they are that path's own, though ``…/jobs/{id}`` would match as well; what is more
    particular is asked first.
    """
    matching = [one for one in request.app.routes if one.matches(request.scope)[0] is not Match.NONE]
    paths = [getattr(one, "path", None) for one in matching]
    own = [one for one, path in zip(matching, paths, strict=True) if path == paths[0]]
    methods = {method for one in own for method in getattr(one, "methods", None) or ()}
    return ", ".join(sorted(methods))


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    return database_away(request.state.request_id, error)
