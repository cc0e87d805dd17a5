"""What tasks of the demo are made of."""

from app.core.strict_json import JsonObject

#: A line of a data file, and the body of a request; each task knows the fields of its own.
Row = JsonObject
Body = JsonObject
