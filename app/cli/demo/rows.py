"""What tasks of the demo are made of."""

from typing import Any

#: A line of a data file, and the body of a request; each task knows the fields of its own.
Row = dict[str, Any]
Body = dict[str, Any]
