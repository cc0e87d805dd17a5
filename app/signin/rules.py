"""Who of those that the identity provider knows may do what: the operator's rules, in their order."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from app.core.errors import Forbidden
from app.core.settings import OidcRule


def rule_for(rules: list[OidcRule], claims: Mapping[str, Any]) -> OidcRule:
    """The first rule that somebody with these claims meets; raises Forbidden where none is."""
    who = claims.get("email") or claims.get("sub")
    for rule in rules:
        given = claims.get(rule.claim)
        if rule.claim == "email" and claims.get("email_verified") is False:
            continue
        values = given if isinstance(given, list) else [given]
        if any(isinstance(one, str) and fnmatchcase(one, rule.value) for one in values):
            return rule
    unverified = ", and the provider has not verified the email address" * (
        claims.get("email_verified") is False
    )
    raise Forbidden(
        f"{who} may not use this service: no rule in POLICYSPLIT_OIDC_RULES matches{unverified}. Its "
        "operator can add one.",
        code="not_allowed",
    )
