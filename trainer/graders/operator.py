"""What the operator, and nobody else, decides about graders: endpoints, secrets, private hosts.

A job names an endpoint or a secret; the values stay in the operator's environment. Read by the API, which
checks jobs, and by the trainer, which runs them.
"""

import os

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trainer.errors import InvalidSpec
from trainer.graders.judge_spec import JudgeFields
from trainer.graders.spec import Grader, HttpGrader, MultiGrader

DEFAULT_ENDPOINT = "default"


class Endpoint(BaseModel):
    """An OpenAI-compatible endpoint, and the environment variable that holds its key."""

    model_config = ConfigDict(extra="forbid")

    url: str
    key_env: str | None = None


class GraderSettings(BaseSettings):
    """From the environment, with the prefix ``POLICYSPLIT_``, as JSON."""

    model_config = SettingsConfigDict(env_prefix="POLICYSPLIT_", extra="ignore")

    grader_endpoints: dict[str, Endpoint] = Field(
        default_factory=dict,
        description='Endpoints for judges and embeddings, JSON: {"default": {"url": "https://host/v1", '
        '"key_env": "VARIABLE"}}; key_env is the variable with the key. They may be in a '
        "private network",
    )
    grader_secrets: dict[str, str] = Field(
        default_factory=dict,
        description='Secrets that sign the requests of http graders, JSON: {"name": "VARIABLE"}',
    )
    grader_allowed_hosts: list[str] = Field(
        default_factory=list,
        description='Hosts, JSON: ["host", "host:port"], that graders may reach despite private addresses',
    )


def endpoint_named(name: str | None) -> tuple[Endpoint, str | None]:
    """An endpoint of the operator's and its key. Raises InvalidSpec when there is none of that name."""
    endpoints = GraderSettings().grader_endpoints
    wanted = name or DEFAULT_ENDPOINT
    if wanted not in endpoints:
        known = ", ".join(sorted(endpoints)) or "none"
        raise InvalidSpec(
            f"the operator has no endpoint {wanted!r} (POLICYSPLIT_GRADER_ENDPOINTS has: {known}); give "
            "one of these, or base_url",
            "grader.endpoint",
        )
    endpoint = endpoints[wanted]
    return endpoint, None if endpoint.key_env is None else _value(endpoint.key_env, f"endpoint {wanted!r}")


def variables_for(grader: Grader) -> set[str]:
    """Names of the variables with the keys and secrets of ``grader``, which its process must be given."""
    settings = GraderSettings()
    found: set[str | None] = set()
    for one in grader.named.values() if isinstance(grader, MultiGrader) else [grader]:
        if isinstance(one, HttpGrader):
            found.add(settings.grader_secrets.get(one.secret))
        elif isinstance(one, JudgeFields) and one.base_url is None:
            endpoint = settings.grader_endpoints.get(one.endpoint or DEFAULT_ENDPOINT)
            found.add(endpoint.key_env if endpoint else None)
    return {name for name in found if name}


def secret_named(name: str) -> str:
    """A secret of the operator's. Raises InvalidSpec when there is none of that name."""
    secrets = GraderSettings().grader_secrets
    if name not in secrets:
        known = ", ".join(sorted(secrets)) or "none"
        raise InvalidSpec(
            f"the operator has no secret {name!r} (POLICYSPLIT_GRADER_SECRETS has: {known})", "grader.secret"
        )
    return _value(secrets[name], f"secret {name!r}")


def allowed_hosts() -> frozenset[str]:
    """Hosts that may have private addresses."""
    return frozenset(host.lower() for host in GraderSettings().grader_allowed_hosts)


def _value(variable: str, whose: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise InvalidSpec(f"the {whose} of the operator has no value: {variable} is not set", "grader")
    return value
