"""What goes wrong with the store, in plain words: which bucket, and what to check. Nothing of its keys."""

import re

from app.core.errors import Unavailable

_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_FULL = frozenset(("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge"))
_KEYS = frozenset(
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthFailure")
)


class StoreError(Unavailable):
    """503: the store cannot be used just now; what was asked for works once it can."""

    default_code = "store_unavailable"


class StoreRefuses(StoreError):
    """It answers, and does not take our keys: trying again helps once somebody has changed something."""


class StoreFull(StoreRefuses):
    """It has no room for more."""


class NotStored(StoreError):
    """It answers, and has no such object."""

    default_code = "artefact_missing"


class Damaged(StoreError):
    """What it gives is not what was put there."""

    default_code = "artefact_damaged"


def explained(error: Exception, url: str, what: str) -> StoreError:
    """What the library's error about ``what`` means to people.

    Its text is not passed on: answers of servers repeat key ids and signed addresses.
    """
    text = str(error)
    found, status = _CODE.search(text), _STATUS.search(text)
    code, number = found[1] if found else "", status[1] if status else ""
    said = f" ({' '.join(part for part in (number, code) if part)})" if number or code else ""
    if code == "NoSuchBucket":
        return StoreRefuses(
            f"The store {url} has no such bucket{said}: create it, or change POLICYSPLIT_STORE."
        )
    if code in _FULL or number == "507" or "No space left" in text:
        return StoreFull(f"The store {url} is full{said}: {what} was not written. Make room in the bucket.")
    if isinstance(error, FileNotFoundError):
        return NotStored(f"The store {url} does not have {what}.")
    if code in _KEYS or number == "401":
        return StoreRefuses(
            f"The store {url} does not know our keys{said}: check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or what the kind of store has instead."
        )
    if number == "403" or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return StoreRefuses(
            f"The store {url} does not let us touch {what}{said}: its keys need the rights to read, write, "
            "list and delete below that prefix."
        )
    if number == "503" or code == "SlowDown":
        return StoreError(f"The store {url} is overloaded{said}: {what} has to wait.")
    if number:
        return StoreError(f"The store {url} failed on {what}{said}: its own log says why.")
    return StoreError(
        f"The store {url} cannot be reached, or breaks off, at {what}: check its address (AWS_ENDPOINT_URL) "
        "and the network."
    )
