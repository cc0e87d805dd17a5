"""Who is signed in to the dashboard."""

from sqlalchemy import Boolean, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.tables.base import Double, Table


class SignIn(Table):
    """A browser in which somebody signed in with the identity provider, until it signs out or it is too old.

    Its secret is the browser's cookie: here is the hash alone.
    """

    __tablename__ = "sign_ins"
    __table_args__ = (
        Index("ix_sign_ins_sha256", "sha256", unique=True),
        Index("ix_sign_ins_expiry", "expires_at"),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    email: Mapped[str] = mapped_column(String(320))
    scopes: Mapped[str] = mapped_column(String(64))
    operator: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[float] = mapped_column(Double)
    expires_at: Mapped[float] = mapped_column(Double)
