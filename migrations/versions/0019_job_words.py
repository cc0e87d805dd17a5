"""Jobs have a name, notes and tags, and words that a search finds them by."""

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index, drop_index, in_parts

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_jobs_name": ["project_id", "name", "id"],
    "ix_jobs_words": ["project_id", "created_at", "id", "words"],
}
_NAME = "substr(coalesce(suffix, model), 1, 128)"
_WORDS = f"""
    UPDATE jobs SET name = {_NAME}, words = substr(
        {_NAME} || char || id || char || model || char || coalesce(fine_tuned_model, ''), 1, 600
    ) WHERE id > :after AND id <= :last AND words = ''
""".replace("char", "{newline}")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("name", sa.String(128), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("words", sa.String(600), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("note", sa.Text, nullable=True))
    op.add_column("jobs", sa.Column("tags", sa.JSON, nullable=True))
    newline = "char(10)" if op.get_bind().dialect.name == "sqlite" else "chr(10)"
    in_parts("jobs", "id", _WORDS.format(newline=newline))
    for name, columns in _INDEXES.items():
        create_index(name, "jobs", columns)


def downgrade() -> None:
    for name in _INDEXES:
        drop_index(name, "jobs")
    for column in ("tags", "note", "words", "name"):
        op.drop_column("jobs", column)
