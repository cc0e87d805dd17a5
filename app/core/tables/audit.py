"""Who changed what."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.strict_json import JsonObject
from app.core.tables.base import Double, Json, Table


class AuditEntry(Table):
    """A change that somebody made, written in its transaction (``app.core.audit``)."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_listing", "project_id", "at", "id"),
        # The operator's list, and what expires.
        Index("ix_audit_log_at", "at", "id"),
        Index("ix_audit_log_object", "object_id", "at", "id"),
        Index("ix_audit_log_type", "type", "at", "id"),
        Index("ix_audit_log_actor", "actor_id", "at", "id"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[float] = mapped_column(Double)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    # api_key.created and the like; of what, by its id.
    type: Mapped[str] = mapped_column(String(64))
    object_id: Mapped[str] = mapped_column(String(512))
    # Id of a key, or the address of somebody who signed in; NULL: who is on the machine, or the service.
    actor_id: Mapped[str | None] = mapped_column(String(320))
    # None of these where no request made the change.
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(128))
    details: Mapped[JsonObject] = mapped_column(Json)
