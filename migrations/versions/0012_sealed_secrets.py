"""Signing secrets of webhooks are sealed (app.core.sealing), old ones, too; going back opens them."""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

from app.core.sealing import seal, unseal

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COLUMNS = ("secret", "previous_secret")


def upgrade() -> None:
    _resize(sa.String(128), sa.Text())
    _rewrite(seal)


def downgrade() -> None:
    _rewrite(unseal)
    _resize(sa.Text(), sa.String(128))


def _resize(old: sa.String, new: sa.String) -> None:
    with op.batch_alter_table("webhook_endpoints") as table:
        for name in _COLUMNS:
            table.alter_column(name, existing_type=old, type_=new)


def _rewrite(change: Callable[[str], str]) -> None:
    connection = op.get_bind()
    for name in _COLUMNS:
        found = connection.execute(
            sa.text(f"SELECT id, {name} FROM webhook_endpoints WHERE {name} IS NOT NULL")
        )
        for identifier, value in found.all():
            connection.execute(
                sa.text(f"UPDATE webhook_endpoints SET {name} = :value WHERE id = :id"),
                {"value": change(value), "id": identifier},
            )
