"""What goes wrong with the store, in plain words: which bucket, and what to check. Nothing of its keys."""

import re

from app.core.errors import Unavailable

#: What has the address of a server of one's own, by kind.
_ADDRESSES = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}
_SECRETS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_FULL = frozenset(("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge"))
_KEYS = frozenset(
    (
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "AuthFailure",
        "AuthenticationFailed",
    )
)
_NO_BUCKET = frozenset(("NoSuchBucket", "ContainerNotFound"))


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
    text, kind = str(error), url.partition(":")[0]
    found, status = _CODE.search(text), _STATUS.search(text)
    code, number = found[1] if found else "", status[1] if status else ""
    said = f" ({' '.join(part for part in (number, code) if part)})" if number or code else ""
    if code in _NO_BUCKET:
        return StoreRefuses(
            f"The store {url} does not have this bucket{said}: create it, or change POLICYSPLIT_STORE."
        )
    if code in _FULL or number == "507" or "No space left" in text:
        return StoreFull(f"The store {url} is full{said}: {what} was not written. Make room in the bucket.")
    if isinstance(error, FileNotFoundError):
        return NotStored(f"The store {url} does not have {what}.")
    if code in _KEYS or number == "401":
        return StoreRefuses(
            f"The store {url} rejected the credentials{said}: check {_SECRETS.get(kind, 'them')}."
        )
    if number == "403" or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return StoreRefuses(
            f"The store {url} denied access to {what}{said}: the credentials need permission to read, "
            "write, list and delete below that prefix."
        )
    if number == "503" or code == "SlowDown":
        return StoreError(f"The store {url} is overloaded{said}: {what} must wait.")
    if number:
        return StoreError(f"The store {url} failed on {what}{said}: see the store's log.")
    address = f" ({_ADDRESSES[kind]})" if kind in _ADDRESSES else ""
    return StoreError(
        f"The store {url} cannot be reached, or drops the connection, at {what}: check its "
        f"address{address} and the network."
    )
