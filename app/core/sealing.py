"""Secrets that have to be read again are encrypted in the database; the key is not in it.

The key is the operator's (``POLICYSPLIT_SEALING_KEYS``) or one of the data directory's own. Of several keys
the first one seals and every one opens: a new one is put in front, and at its next start the API seals anew.
"""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.core.own_secrets import own_secret
from app.core.settings import get_settings

_PREFIX = "sealed:"


class Unreadable(ValueError):
    """None of the keys opens it."""


def seal(secret: str) -> str:
    """What may stand in the database."""
    return _PREFIX + _sealer(_keys()).encrypt(secret.encode()).decode()


def unseal(stored: str) -> str:
    """The secret; raises Unreadable. One that was never sealed is given back as it is."""
    if not stored.startswith(_PREFIX):
        return stored
    try:
        return _sealer(_keys()).decrypt(stored.removeprefix(_PREFIX)).decode()
    except InvalidToken:
        raise Unreadable("it was encrypted with a key that this service does not have") from None


def sealed_anew(stored: str) -> str | None:
    """The same secret, sealed with the first key; None where it is that already, or cannot be read."""
    if stored.startswith(_PREFIX):
        try:
            _sealer(_keys()[:1]).decrypt(stored.removeprefix(_PREFIX))
        except InvalidToken:
            pass
        else:
            return None
    try:
        return seal(unseal(stored))
    except Unreadable:
        return None


def _keys() -> tuple[str, ...]:
    settings = get_settings()
    given = tuple(one.get_secret_value() for one in settings.sealing_keys)
    return given or (own_secret(settings, "sealing-key", lambda: Fernet.generate_key().decode()),)


@lru_cache(maxsize=4)
def _sealer(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
