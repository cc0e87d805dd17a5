"""Rows by many ids at once."""

import json
from collections.abc import Collection

from sqlalchemy import ColumnElement, String, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session


def among(session: Session, column: InstrumentedAttribute[str], ids: Collection[str]) -> ColumnElement[bool]:
    """``column.in_(ids)`` as one parameter: a thousand take longer to write and to read than to look up."""
    if session.get_bind().dialect.name == "postgresql":
        return column == any_(bindparam(None, list(ids), ARRAY(String)))
    return column.in_(select(func.json_each(json.dumps(list(ids))).table_valued("value").c.value))
