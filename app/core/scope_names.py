"""The scopes of keys by name, for those who need no routes: ``app.core.scopes`` has what they open."""

from typing import Literal, get_args

Scope = Literal["read", "train", "infer", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
