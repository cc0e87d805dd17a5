"""Leases: which worker works on a row, and the token that keeps a worker that lost it from writing.

Jobs, estimates, replays and runs of evals are leased alike. A claim raises the row's ``attempt`` by one: that
number and the owner are the fencing token. Every later write asserts ``attempt and owner are mine, and the
status is a held one`` in its own UPDATE, which on PostgreSQL also locks the row. A claim takes the first
row that nobody has locked (``FOR UPDATE SKIP LOCKED``; SQLite has one writer anyway), so that a locked row
delays no other. Times are the hosts' wall clocks: these may differ by no more than a fraction of
``lease_seconds``.
"""

import os
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Select, String, bindparam, literal_column, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.core.settings import get_settings
from app.core.tables import Double, Estimate, EvalRun, Job, JobReplay

Leased = TypeVar("Leased", Job, Estimate, JobReplay, EvalRun)


_Update = ReturningUpdate[*tuple[Any, ...]]
#: A statement that claims, and what it gives of the claimed row beside the claim.
Claiming = _Update | Select[*tuple[Any, ...]]
Returned = tuple[Any, ...]
#: Whom a claim is for, in its statement.
OWNER = bindparam("its_owner", type_=String)


class LeaseLost(Exception):
    """Another worker, or nobody, holds the row now: stop what runs for it and write nothing."""

    def __init__(self, claim: "Claim"):
        super().__init__(f"the lease of {claim.id}, attempt {claim.attempt}, has been lost")


@dataclass(frozen=True)
class Claim:
    """A worker's hold on the row ``id``. ``attempt`` and ``owner`` are the fencing token.

    ``gpus``: of a job, how many of the worker's it has.
    """

    id: str
    attempt: int
    owner: str
    gpus: int = 1


def new_owner() -> str:
    """A name for this process as an owner of leases, unlike that of any other."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


class Lease(Generic[Leased]):
    """The leases of one table, whose rows are held while their status is one of ``held``."""

    def __init__(self, table: type[Leased], held: Collection[str]):
        self.table, self._held = table, tuple(held)

    def claiming(self, waiting: Select[str], *returned: object, **values: object) -> _Update:
        """The statement of :meth:`claim`; made once where it is sent often: making it takes long."""
        table = self.table
        first = (
            waiting.limit(literal_column("1")).with_for_update(skip_locked=True, of=table).scalar_subquery()
        )
        return (
            update(table)
            .where(table.id == first)
            .values(
                attempt=table.attempt + 1,
                lease_owner=OWNER,
                lease_expires_at=bindparam("its_end", type_=Double),
                **values,
            )
            .returning(table.id, table.attempt, *returned)
            .execution_options(synchronize_session=False)
        )

    def claim(
        self, connection: Connection, claiming: Claiming, owner: str, **parameters: object
    ) -> tuple[Claim, Returned] | None:
        """Take the first row of those that wait, ids in order, that nobody else has locked, and set values.

        The claim, and the row of what was to be returned; None: there is none. The values have the status
        with which the row becomes a held one; ``parameters`` are the statement's own.
        """
        until = time.time() + get_settings().lease_seconds
        bound = {"its_owner": owner, "its_end": until} | parameters
        row = connection.execute(claiming, bound).one_or_none()
        return None if row is None else (Claim(row.id, row.attempt, owner), row[2:])

    def hold(self, session: Session, claim: Claim) -> Leased:
        """The claimed row, locked until the transaction ends; raises LeaseLost when it is not ours."""
        query = select(self.table).where(*self.mine(claim)).with_for_update()
        row = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
        if row is None:
            raise LeaseLost(claim)
        return row

    def lock(self, session: Session, claim: Claim, *columns: Any) -> Returned:
        """The row of ``columns`` of the claimed row, which is locked until the transaction ends.

        Cheaper than :meth:`hold`, which reads a specification, and than a write, which leaves PostgreSQL a
        copy of the row. Raises LeaseLost when the row is not ours.
        """
        query = select(self.table.id, *columns).where(*self.mine(claim)).with_for_update()
        found = session.execute(query).one_or_none()
        if found is None:
            raise LeaseLost(claim)
        return found[1:]

    def write(self, session: Session, claim: Claim, *returned: object, **values: object) -> Returned:
        """Set columns of the claimed row, which also locks it; the row of what is to be ``returned``.

        Raises LeaseLost when the row is not ours.
        """
        table = self.table
        found = session.execute(
            update(table)
            .where(*self.mine(claim))
            .values(values)
            .returning(table.id, *returned)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if found is None:
            raise LeaseLost(claim)
        return found[1:]

    def renew(self, session: Session, claim: Claim, *returned: object, **values: object) -> Returned:
        """Extend the lease from now, and otherwise as :meth:`write`."""
        until = time.time() + get_settings().lease_seconds
        return self.write(session, claim, *returned, lease_expires_at=until, **values)

    def finish(self, session: Session, claim: Claim, status: str, **values: object) -> None:
        """Give the row up with a status that is not held; raises LeaseLost, writing nothing."""
        self.write(session, claim, status=status, lease_owner=None, lease_expires_at=None, **values)

    def mine(self, claim: Claim) -> tuple[ColumnElement[bool], ...]:
        """The conditions that the row is the claimed one and is still ours."""
        table = self.table
        return (
            table.id == claim.id,
            table.attempt == claim.attempt,
            table.lease_owner == claim.owner,
            table.status.in_(self._held),
        )

    def lost(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions that a row is held by a worker that has not been heard of."""
        return self.table.status.in_(self._held), self.table.lease_expires_at < time.time()
