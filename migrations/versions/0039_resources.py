"""A job's row has how many GPUs it wants, with how many it begins, and which worker keeps room for it.

The order of turns is read from its index with the GPUs in it. May be cut off and done again.
"""

import sqlalchemy as sa
from alembic import op

from migrations.online import create_index, drop_index

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_WAITING = sa.text("status = 'queued'")
_OF_WAITING = {"postgresql_where": _WAITING, "sqlite_where": _WAITING}
_ORDER = ["project_id", sa.text("priority DESC"), "created_at", "id"]
_READ = ["not_before", "cancel_requested", "status"]
_LARGE = sa.text("status = 'queued' AND wanted_gpus > 1")
_COLUMNS = ("wanted_gpus", "least_gpus", "held_gpus")


def upgrade() -> None:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("jobs")}
    for name in _COLUMNS:
        if name not in there:
            op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="1"))
    if "reserved_by" not in there:
        op.add_column("jobs", sa.Column("reserved_by", sa.String(128), nullable=True))
    if "turn_at" not in there:
        double = sa.Float(53).with_variant(sa.DOUBLE_PRECISION(), "postgresql")
        op.add_column("jobs", sa.Column("turn_at", double, nullable=True))
    create_index("ix_jobs_turn", "jobs", [*_ORDER, *_READ, "least_gpus"], **_OF_WAITING)
    create_index("ix_jobs_large", "jobs", ["id"], postgresql_where=_LARGE, sqlite_where=_LARGE)
    drop_index("ix_jobs_due", "jobs")


def downgrade() -> None:
    create_index("ix_jobs_due", "jobs", [*_ORDER, *_READ], **_OF_WAITING)
    drop_index("ix_jobs_large", "jobs")
    drop_index("ix_jobs_turn", "jobs")
    for column in ("turn_at", "reserved_by", *reversed(_COLUMNS)):
        op.drop_column("jobs", column)
