"""``/auth``: a browser's way to the identity provider and back. The API's description is without it."""

import html

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse

from app.core.errors import ApiError, BadRequest, NotFound
from app.core.settings import get_settings
from app.keys.sessions import COOKIE, refuse_other_origins, session_cookie, signed_in
from app.signin import service
from app.signin.provider import Provider

router = APIRouter(prefix="/auth", include_in_schema=False)
_ATTEMPT = "policysplit_sign_in"
_UNKEPT = {"cache-control": "no-store"}


@router.get("/session")
async def session(request: Request) -> dict[str, object]:
    """Who is signed in in this browser, and whether one can."""
    found = await signed_in(request.scope, request.state.quick_reads)
    caller = None if found is None else found[0]
    return {
        "sign_in": "/auth/login" if get_settings().oidc_issuer else None,
        "provider": get_settings().oidc_name,
        "email": None if caller is None else caller.email,
        "project_id": None if caller is None else caller.project_id,
        "scopes": [] if caller is None else sorted(caller.scopes),
        "operator": caller is not None and caller.operator,
    }


@router.get("/login")
async def login() -> Response:
    """To the identity provider."""
    try:
        attempt, sealed = service.new_attempt()
        answer = RedirectResponse(await _provider().address(attempt), status_code=303, headers=_UNKEPT)
    except ApiError as error:
        return _told(error)
    # Lax: the provider sends the browser back, and the cookie has to come along.
    _set(answer, _ATTEMPT, sealed, service.ATTEMPT_SECONDS, "lax")
    return answer


@router.get("/callback")
async def callback(request: Request) -> Response:
    """Back from it."""
    query = request.query_params
    try:
        provider = _provider()
        attempt = service.attempt_of(session_cookie(request.scope, _ATTEMPT), query.get("state"))
        if (code := query.get("code")) is None:
            why = query.get("error_description") or query.get("error") or "it sent no code"
            raise BadRequest(f"The identity provider refused: {why[:300]}.", code="sign_in_failed")
        claims = await provider.claims(code, attempt)
        secret = await run_in_threadpool(service.sign_in, claims)
    except ApiError as error:
        answer: Response = _told(error)
    else:
        answer = RedirectResponse("/", status_code=303, headers=_UNKEPT)
        _set(answer, COOKIE, secret, round(get_settings().oidc_session_hours * 3600), "strict")
    answer.delete_cookie(_ATTEMPT, path="/auth")
    return answer


@router.post("/logout")
async def logout(request: Request) -> Response:
    """End this browser's session."""
    refuse_other_origins(request.scope)
    await run_in_threadpool(service.sign_out, session_cookie(request.scope))
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _provider() -> Provider:
    settings = get_settings()
    if not settings.oidc_issuer:
        raise NotFound("This service has no identity provider (POLICYSPLIT_OIDC_ISSUER): use a key.")
    return Provider(settings)


def _set(answer: Response, name: str, value: str, seconds: int, same_site: str) -> None:
    secure = get_settings().oidc_public_url.startswith("https:")
    path = "/" if name == COOKIE else "/auth"
    answer.set_cookie(
        name,
        value,
        max_age=seconds,
        path=path,
        secure=secure,
        httponly=True,
        samesite=same_site,  # pyright: ignore[reportArgumentType]
    )


def _told(error: ApiError) -> HTMLResponse:
    """An error for people, whose browser has come here by itself."""
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Not signed in</title>'
        f"<h1>Not signed in</h1><p>{html.escape(error.message)}</p>"
        '<p><a href="/auth/login">Try again</a>, or go to <a href="/">the dashboard</a>.</p></html>'
    )
    return HTMLResponse(text, error.status, headers={**error.headers, **_UNKEPT})
