"""A key's secret: random, shown once, kept as a hash."""

import hashlib
import secrets

PREFIX = "sk-"
_BYTES = 32
_CHARACTERS = len(PREFIX) + 43
_HINT_CHARACTERS = 4


def new_secret() -> str:
    """256 random bits."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def is_secret(text: str) -> bool:
    """Whether ``text`` may be one: what clients send to a service without keys is not."""
    return len(text) == _CHARACTERS and text.startswith(PREFIX)


def digest_of(secret: str) -> str:
    """What is stored. A plain hash is enough for a secret that nobody can guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def hint_of(secret: str) -> str:
    """Enough to tell keys apart in a list: ``sk-…a1B2``."""
    return f"{PREFIX}…{secret[-_HINT_CHARACTERS:]}"
