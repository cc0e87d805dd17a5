"""schemathesis's settings for a target: ids that exist among those it makes up, and what may be expected."""

import json

from tests.fuzz.target import Target

#: The share of the requests that ask for what there is.
EXISTING = 0.6


def configuration(target: Target) -> str:
    """The text of a ``schemathesis.toml``."""
    lines = [
        f"base-url = {json.dumps(target.url)}",
        "request-timeout = 20",
        "max-stream-events = 5",
        "continue-on-failure = true",
        "suppress-health-check = ['all']",
        "generation.database = 'none'",
        "cache.enabled = false",
        # A schema cannot hold every rule, such as which ids there are: hooks.refusals_have_reasons looks on.
        "checks.positive_data_acceptance.expected-statuses = ['2xx', 400, 401, 403, 404, 409, 413, 429]",
        "checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 429]",
        "checks.missing_required_header.expected-statuses = [400, 401]",
    ]
    if target.key is not None:
        lines.append(f"auth.openapi.key = {{ bearer = {json.dumps(target.key)} }}")
    for set_name, ids in (("read", target.ids), ("removed", target.doomed)):
        lines += [f"dictionaries.{set_name}_{name}.values = [{json.dumps(ids[name])}]" for name in ids]
    lines += _parameters(target, "read")
    lines += [
        "[[operations]]",
        "include-method = 'DELETE'",
        *_parameters(target, "removed"),
        "[[operations]]",
        "include-name = ['POST /v1/chat/completions', 'POST /v1/completions', 'POST /v1/responses']",
        "# There is no engine here to answer.",
        "checks.not_a_server_error.expected-statuses = ['2xx', '4xx', 503]",
        "checks.positive_data_acceptance.expected-statuses = ['2xx', 400, 404, 503]",
    ]
    if target.key is None:
        # The first key would end what is tried here: requests without one.
        lines += ["[[operations]]", "include-name = 'POST /v1/api_keys'", "enabled = false"]
    return "\n".join(lines) + "\n"


def _parameters(target: Target, set_name: str) -> list[str]:
    return [
        f'parameters."path.{name}" = {{ dictionary = "{set_name}_{name}", probability = {EXISTING} }}'
        for name in target.ids
        if name != "other_project"
    ]
