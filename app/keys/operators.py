"""Whether a key is an operator's, for processes that are not the API."""

from sqlalchemy import select

from app.core.db import read_session
from app.core.tables import ApiKey


def is_operators(digest: str) -> bool:
    """Whether the key with this digest is an operator's, and was not revoked."""
    query = select(ApiKey.operator).where(ApiKey.sha256 == digest, ApiKey.revoked_at.is_(None))
    with read_session() as session:
        return bool(session.scalar(query))
