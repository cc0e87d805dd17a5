"""Recording engines as forks of one process that has imported all they need: each is up in a moment.

``forked_engine.py serve …`` stands in for an engine's command. It has the process that listens at the socket
``FORKED_ENGINES`` fork one with its arguments, folder, environment and output, and the two end together.
"""

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

SOCKET = "FORKED_ENGINES"
LISTEN = "listen"


def stand_in() -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET])
        wanted = {"arguments": sys.argv[1:], "folder": str(Path.cwd()), "environment": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(wanted).encode()], [1, 2])
        connection.recv(1)  # until the engine's end closes it
    return 1


def listen() -> None:
    from transformers.models.llama import modeling_llama  # noqa: F401

    from tests.inference import recording_engine

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks leave no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[SOCKET])
        listener.listen()
        while True:
            connection, _ = listener.accept()
            data, outputs, _, _ = socket.recv_fds(connection, 1 << 20, 2)
            if os.fork() == 0:
                listener.close()
                _become(json.loads(data), outputs)
                threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
                sys.exit(recording_engine.run())
            connection.close()
            for output in outputs:
                os.close(output)


def _become(wanted: dict[str, Any], outputs: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
        os.close(output)
    os.chdir(wanted["folder"])
    os.environ.update(wanted["environment"])
    sys.argv = ["transformers", *wanted["arguments"]]


def _end_with(stand_in: socket.socket) -> None:
    stand_in.recv(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(listen() if sys.argv[1:] == [LISTEN] else stand_in())
