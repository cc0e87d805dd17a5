"""The identity provider: what it says of itself, its answer to a code, and whether a token is its own."""

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError
from joserfc.jwk import KeySet

from app.core.errors import ApiError, BadRequest, Unavailable
from app.core.settings import Settings
from app.core.strict_json import JsonObject

SECONDS = 10.0
#: Signatures with the provider's public key alone: never none, never with a shared secret.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_log = logging.getLogger("app")


@dataclass(frozen=True)
class Attempt:
    """What a browser that was sent to the provider has to come back with."""

    state: str
    nonce: str
    verifier: str


class Provider:
    """One identity provider, by the settings."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._issuer = settings.oidc_issuer.rstrip("/")
        self.redirect_uri = f"{settings.oidc_public_url.rstrip('/')}/auth/callback"

    async def address(self, attempt: Attempt) -> str:
        """Where to send a browser. Raises an ApiError."""
        async with _client() as client:
            metadata = await self._metadata(client)
        return prepare_grant_uri(
            metadata["authorization_endpoint"],
            client_id=self._settings.oidc_client_id,
            response_type="code",
            redirect_uri=self.redirect_uri,
            scope=self._settings.oidc_scopes,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )

    async def claims(self, code: str, attempt: Attempt) -> JsonObject:
        """Who has come back with ``code``, as the provider's signed token says. Raises an ApiError."""
        async with _client() as client:
            metadata = await self._metadata(client)
            token = await self._token(client, metadata["token_endpoint"], code, attempt.verifier)
            keys = await self._get(client, metadata["jwks_uri"])
        if not isinstance(keys.get("keys"), list):
            raise self._away(ValueError(f"{metadata['jwks_uri']} does not contain a list of keys"))
        if not isinstance(token.get("id_token"), str):
            raise _refused("it sent no id_token; is the scope openid among POLICYSPLIT_OIDC_SCOPES?")
        return self._verified(token["id_token"], keys, attempt.nonce, metadata["issuer"])

    async def _token(self, client: httpx.AsyncClient, url: str, code: str, verifier: str) -> JsonObject:
        identity, secret = self._settings.oidc_client_id, self._settings.oidc_client_secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
            "client_id": identity,
        }
        auth = httpx.Auth()  # none
        if secret is not None:
            # Encoded as in a form, as RFC 6749 (2.3.1) wants it.
            auth = httpx.BasicAuth(quote_plus(identity), quote_plus(secret.get_secret_value()))
        try:
            answer = await client.post(url, data=form, auth=auth)
            told = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._away(error) from None
        if answer.status_code != 200 or not isinstance(told, dict):
            why = told.get("error_description") or told.get("error") if isinstance(told, dict) else None
            raise _refused(f"it rejected the code: {why or answer.status_code}")
        return told

    def _verified(self, token: str, keys: Any, nonce: str, issuer: str) -> JsonObject:
        skew = self._settings.oidc_clock_skew_seconds
        registry = jwt.JWTClaimsRegistry(
            leeway=skew,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS).claims
            registry.validate(claims)
        except ExpiredTokenError:
            raise _refused(f"its token has expired. Do the clocks agree to within {skew} s?") from None
        except InvalidClaimError as error:
            about = f" Do the clocks agree to within {skew} s?" if error.claim in ("iat", "nbf") else ""
            raise _refused(f"its token is not for this sign-in: {error.claim} is wrong.{about}") from None
        except (JoseError, ValueError) as error:
            raise _refused(f"its token cannot be trusted: {error}") from None
        return claims

    async def _metadata(self, client: httpx.AsyncClient) -> JsonObject:
        found = await self._get(client, f"{self._issuer}/.well-known/openid-configuration")
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            raise Unavailable(
                f"The identity provider at {self._issuer} calls itself "
                f"{str(found.get('issuer'))[:200]!r}: set POLICYSPLIT_OIDC_ISSUER to that.",
                code="identity_provider_unavailable",
            )
        missing = {"authorization_endpoint", "token_endpoint", "jwks_uri"} - found.keys()
        if missing:
            raise self._away(ValueError(f"its discovery document lacks {', '.join(sorted(missing))}"))
        return found

    async def _get(self, client: httpx.AsyncClient, url: str) -> JsonObject:
        try:
            answer = await client.get(url)
            answer.raise_for_status()
            found = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._away(error) from None
        if not isinstance(found, dict):
            raise self._away(ValueError(f"{url} is not a JSON object"))
        return found

    def _away(self, error: Exception) -> ApiError:
        _log.warning("the identity provider %s: %s: %s", self._issuer, type(error).__name__, error)
        return Unavailable(
            f"The identity provider at {self._issuer} gave an unexpected answer ({type(error).__name__}). "
            "Try again, or use a key.",
            retry_after=10,
            code="identity_provider_unavailable",
        )


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=SECONDS, follow_redirects=False)


def _refused(why: str) -> BadRequest:
    return BadRequest(f"The identity provider's answer was refused: {why}", code="sign_in_failed")
