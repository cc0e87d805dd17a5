"""Where deleted rows go: nobody sees them there until the workers have removed what they own."""

from sqlalchemy.orm import Session

from app.core.tables import DELETED_PROJECT, Project
from app.core.upsert import insert_for


def have_nowhere(session: Session) -> None:
    """There is the project ``DELETED_PROJECT``, which has no keys."""
    row = insert_for(session, Project).values(id=DELETED_PROJECT, name="what was deleted", created_at=0.0)
    session.execute(row.on_conflict_do_nothing(index_elements=["id"]))
