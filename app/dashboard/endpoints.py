"""``/`` and ``/dashboard/…``: files alone, the same for everybody. What they show comes from the API."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.dashboard.assets import PREFIX, Asset, site
from app.errors import NotFound

router = APIRouter(include_in_schema=False)

#: Nothing from elsewhere, nothing inline, nothing that could turn text into markup.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "vary": "accept-encoding",
}


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The dashboard."""
    return _answer(request, site().index, "no-cache")


@router.api_route(PREFIX + "{digest}/{name:path}", methods=["GET", "HEAD"])
async def file(digest: str, name: str, request: Request) -> Response:
    """One of its files, which never changes under its address."""
    found = site().files.get(name) if digest == site().digest else None
    if found is None:
        raise NotFound("There is no such file of the dashboard: load the page again.", code="unknown_url")
    return _answer(request, found, "public, max-age=31536000, immutable")


def _answer(request: Request, asset: Asset, caching: str) -> Response:
    headers = {**_HEADERS, "cache-control": caching}
    if asset.zipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(asset.zipped, media_type=asset.media_type, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)
