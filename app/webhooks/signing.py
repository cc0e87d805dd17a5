"""Signatures as Standard Webhooks has them: HMAC-SHA256 over ``id.timestamp.body``."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

_PREFIX = "whsec_"
_BYTES = 32


def new_signing_secret() -> str:
    """256 random bits, in the form that receivers expect."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def secret_hint(secret: str) -> str:
    """Enough to tell secrets apart."""
    return f"{_PREFIX}…{secret[-5:]}"


def signed_headers(message_id: str, timestamp: int, body: str, keys: Iterable[str]) -> dict[str, str]:
    """The headers that prove where ``body`` comes from; after a rotation a signature for each secret."""
    content = f"{message_id}.{timestamp}.{body}".encode()
    signatures = " ".join(f"v1,{_signature(key, content)}" for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures,
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
