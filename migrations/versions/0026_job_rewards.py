"""The newest rewards of each job, for lists in their order.

A table beside the jobs: rewards change with each step, and a job's row would be entered anew in all indexes.

Triggers, so that jobs which the release before makes meanwhile are in it as well; 0027 adds those of before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

#: Below every reward: of jobs that have none yet (``app.core.tables``).
NONE = "-1e308"
_ADD = "INSERT INTO job_rewards (job_id, project_id) VALUES (new.id, new.project_id)"
_MOVE = "UPDATE job_rewards SET project_id = new.project_id WHERE job_id = new.id"
_SQLITE = (
    f"CREATE TRIGGER job_rewards_insert AFTER INSERT ON jobs BEGIN {_ADD}; END",
    f"CREATE TRIGGER job_rewards_update AFTER UPDATE OF project_id ON jobs BEGIN {_MOVE}; END",
)
_POSTGRESQL = (
    f"""
    CREATE FUNCTION keep_job_rewards() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            {_MOVE};
        ELSE
            {_ADD};
        END IF;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER job_rewards_change AFTER INSERT OR UPDATE OF project_id ON jobs "
    "FOR EACH ROW EXECUTE FUNCTION keep_job_rewards()",
)


def upgrade() -> None:
    op.create_table(
        "job_rewards",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("normal", sa.Float(53), nullable=False, server_default=NONE),
        sa.Column("high_entropy", sa.Float(53), nullable=False, server_default=NONE),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_rewards_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_rewards"),
    )
    for mode in ("normal", "high_entropy"):
        op.create_index(f"ix_job_rewards_{mode}", "job_rewards", ["project_id", mode, "job_id"])
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER job_rewards_insert")
        op.execute("DROP TRIGGER job_rewards_update")
    else:
        op.execute("DROP TRIGGER job_rewards_change ON jobs")
        op.execute("DROP FUNCTION keep_job_rewards")
    op.drop_table("job_rewards")
