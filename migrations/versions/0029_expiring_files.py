"""Files go at a time that their uploader chose, and have pairs of texts as jobs have."""

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index, drop_index

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_EXPIRES = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("files", sa.Column("expires_at", sa.Float(53), nullable=True))
    op.add_column("files", sa.Column("user_metadata", sa.JSON(none_as_null=True), nullable=True))
    create_index("ix_files_expiry", "files", ["expires_at"], postgresql_where=_EXPIRES, sqlite_where=_EXPIRES)


def downgrade() -> None:
    drop_index("ix_files_expiry", "files")
    op.drop_column("files", "user_metadata")
    op.drop_column("files", "expires_at")
