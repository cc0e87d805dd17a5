"""``python -m worker.inference``: run an inference worker until SIGTERM or SIGINT."""

import logging
import signal
import socket
import sys

import uvicorn

from app.core import tracing
from app.core.addresses import is_loopback
from app.core.private import keep_private, tighten_if_open
from app.core.settings import Settings, get_settings
from trainer.system import logs
from worker.inference.server import build_app

#: How long streams may go on after the signal to end.
DRAIN_SECONDS = 3


def main() -> int:
    """Exit code 2: the settings can't work."""
    logs.set_up("inference", "%(asctime)s inference %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    keep_private()
    settings = get_settings()
    tighten_if_open(settings.data_dir)
    try:
        check_address(settings)
        tracing.set_up("inference")
        listener = socket.create_server(
            (settings.inference_host, settings.inference_port),
            family=socket.AF_INET6 if ":" in settings.inference_host else socket.AF_INET,
        )
        url = advertised_url(settings, listener.getsockname()[1])
        app = build_app(settings, url)
    except (ValueError, OSError, tracing.TracingMissing) as error:
        print(f"inference: {error}", file=sys.stderr)
        return 2
    logging.getLogger(__name__).info("listening on %s, engine %s", url, settings.engine)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=DRAIN_SECONDS, log_config=None
    )
    # uvicorn ends in order on these two and then raises them again, for the handlers that were there before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def check_address(settings: Settings) -> None:
    """Raise ValueError if the settings would open the engines to the network without a secret."""
    if settings.inference_token is None and not is_loopback(settings.inference_host):
        raise ValueError(
            f"POLICYSPLIT_INFERENCE_HOST is {settings.inference_host!r}, which others can reach: set the "
            "same POLICYSPLIT_INFERENCE_TOKEN for the API and the inference workers, or use 127.0.0.1"
        )


def advertised_url(settings: Settings, port: int) -> str:
    """The address to register. Raises ValueError where the host alone does not name one."""
    if settings.inference_url:
        return settings.inference_url.rstrip("/")
    host = settings.inference_host
    if host in ("0.0.0.0", "::", ""):
        raise ValueError(
            f"POLICYSPLIT_INFERENCE_HOST is {host!r}, all interfaces: set POLICYSPLIT_INFERENCE_URL to "
            "the address at which the API reaches this worker, such as http://gpu-3.internal:8701"
        )
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
