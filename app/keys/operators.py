"""Whether a key is an operator's, for processes that are not the API."""

from sqlalchemy import select

from app.core.db import read_session
from app.core.tables import ApiKey
from app.keys.repository import scopes_held


def is_operators(digest: str) -> bool:
    """Whether the key with this digest is an operator's that may read, and was not revoked."""
    query = select(ApiKey.operator, ApiKey.scopes).where(ApiKey.sha256 == digest, ApiKey.revoked_at.is_(None))
    with read_session() as session:
        found = session.execute(query).one_or_none()
    return found is not None and found.operator and "read" in scopes_held(found.scopes)
