"""Somebody with a key of their own, who asks for health and for models, and how long each answer took.

A process of its own, so that what an attacker computes delays nobody but by way of the service and the
machine's cores: ``python -I bystander.py URL KEY``. Says ``ready`` after a first round, and the seconds of
all later ones as a list, in JSON, when its input ends.
"""

import http.client
import json
import select
import sys
import time
from urllib.parse import urlsplit

_PATHS = ("/healthz", "/v1/models")
_PAUSE_SECONDS = 0.02


def main() -> None:
    """Ask until the input ends."""
    url, key = sys.argv[1:]
    headers = {"authorization": f"Bearer {key}"} if key else {}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    waits: list[float] = []
    rounds = 0
    while not (rounds > 1 and select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]):
        for path in _PATHS:
            began = time.monotonic()
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                sys.exit(f"{path} was answered with {answer.status}")
            waits.append(time.monotonic() - began)
        rounds += 1
        if rounds == 1:
            waits.clear()  # what a connection takes
            print("ready", flush=True)
    print(json.dumps(waits))


if __name__ == "__main__":
    main()
