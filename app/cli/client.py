"""The service over HTTP, through the unmodified ``openai`` SDK; its errors as the API words them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.datadir import DataDir
from app.cli.environment import settings_with
from app.cli.errors import CliError
from app.core.strict_json import JsonObject

if TYPE_CHECKING:
    import openai

BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        envvar="POLICYSPLIT_BASE_URL",
        help="URL of the API, such as http://127.0.0.1:8700, with or without /v1. Default: the service "
        "running on the data directory.",
    ),
]
DataDirOption = Annotated[
    Path | None, typer.Option(help="The service's data directory, used to find the service.")
]

#: An object as the API gives it; whoever asks for it knows its form.
Told = JsonObject

#: What the SDK sends in place of a key, without which it makes no client.
_NO_KEY = "none"


def connect(base_url: str | None, data_dir: Path | None = None) -> "openai.OpenAI":
    """A client for ``base_url``, or for the service that runs on the data directory, or for host and port.

    The key is POLICYSPLIT_API_KEY or OPENAI_API_KEY; a service without keys takes anything.
    """
    import openai  # a second of imports that other commands need not wait for

    if base_url is None:
        from app.cli.components import api_url

        settings = settings_with(data_dir=data_dir)
        base_url = DataDir(settings.data_dir).address() or f"{api_url(settings)}/v1"
    elif not base_url.rstrip("/").endswith("/v1"):
        base_url = f"{base_url.rstrip('/')}/v1"
    key = os.environ.get("POLICYSPLIT_API_KEY") or os.environ.get("OPENAI_API_KEY") or _NO_KEY
    return openai.OpenAI(base_url=base_url, api_key=key)


@contextlib.contextmanager
def api_errors(client: "openai.OpenAI") -> Iterator[None]:
    """Turn what the SDK raises into a CliError with the API's own message."""
    import openai

    try:
        yield
    except openai.APIConnectionError as error:
        raise CliError(
            f"the service at {client.base_url} does not answer ({error.__cause__ or error}). Start it "
            "with `policysplit serve`, or give its URL with --base-url"
        ) from error
    except openai.AuthenticationError as error:
        why = "the service requires a key." if client.api_key == _NO_KEY else _message(error)
        raise CliError(
            f"{why} Set POLICYSPLIT_API_KEY to a key of the service; `policysplit keys create --name "
            "NAME` makes one"
        ) from error
    except openai.APIStatusError as error:
        raise CliError(_message(error)) from error


def _message(error: "openai.APIStatusError") -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body["message"]
    return f"HTTP {error.status_code}: {error.response.text[:500] or error.message}"


def get(client: "openai.OpenAI", path: str) -> Told:
    """What the API, of which the SDK does not know this path, has there."""
    found: Any = client.get(path, cast_to=object)
    return found


def post(client: "openai.OpenAI", path: str, body: Told) -> Told:
    """Likewise, with a body."""
    made: Any = client.post(path, cast_to=object, body=body)
    return made
