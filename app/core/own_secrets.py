"""Secrets that the service makes for itself, each a file in ``secrets/`` of the data directory.

Made when they are first asked for, by whichever process asks first; nobody but the service's user can read
them.
"""

import contextlib
import secrets
from collections.abc import Callable

from app.core.settings import Settings
from trainer.system.files import atomic_file

FOLDER = "secrets"


def own_secret(settings: Settings, name: str, make: Callable[[], str]) -> str:
    """The secret called ``name``, made by ``make`` unless it is there."""
    folder = settings.data_dir.resolve() / FOLDER
    path = folder / name
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_file(path, mode=0o600, first_stays=True) as draft:
        draft.write_text(make())
    return path.read_text()


def inference_token(settings: Settings) -> str:
    """What the gateway shows to inference workers: the operator's token, or else the data directory's."""
    if settings.inference_token is not None:
        return settings.inference_token.get_secret_value()
    return own_secret(settings, "inference-token", lambda: secrets.token_urlsafe(32))
