"""Another user of the machine tries what lies on the disk and what listens. Only root can become one."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.attack.attempt import Attempt

#: nobody
USER = 65534

_SCRIPT = """
import json, os, socket, sys, urllib.request
asked = json.load(sys.stdin)
found = {"read": [], "connected": [], "answered": []}
for path in asked["paths"]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
        found["read"].append(path)
    except OSError:
        pass
for path in asked["sockets"]:
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
        found["connected"].append(path)
    except OSError:
        pass
for method, url in asked["urls"]:
    try:
        asking = urllib.request.Request(url, b"{}" if method == "POST" else None)
        with urllib.request.urlopen(asking) as answer:
            found["answered"].append([url, answer.status])
    except urllib.error.HTTPError as error:
        if error.code not in (401, 404):
            found["answered"].append([url, error.code])
    except OSError:
        pass
json.dump(found, sys.stdout)
"""


def can_become_another() -> bool:
    return os.geteuid() == 0


def attack(data_dir: Path, workers: Iterable[str], sockets: Iterable[Path]) -> list[Attempt]:
    """Read everything in the data directory, connect to the sockets, ask the inference workers."""
    paths = [str(data_dir), *(str(path) for path in data_dir.rglob("*") if not path.is_socket())]
    here = [str(path) for path in (*data_dir.rglob("*.sock"), *sockets)]
    urls = [
        (method, url + path)
        for url in workers
        for method, path in (("GET", "/engines"), ("POST", "/load"), ("POST", "/samples"), ("GET", "/docs"))
    ]
    program = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    assert program is not None
    done = subprocess.run(
        [program, "-I", "-c", _SCRIPT],
        input=json.dumps({"paths": paths, "sockets": here, "urls": urls}),
        user=USER,
        group=USER,
        extra_groups=[],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    return [
        _attempt("files and folders read", found["read"], len(paths)),
        _attempt("sockets of Redis and engines entered", found["connected"], len(here)),
        _attempt("routes of inference workers answered", found["answered"], len(urls)),
    ]


def _attempt(name: str, got: list[object], tried: int) -> Attempt:
    return Attempt("other user", name, not got, f"{len(got)} of {tried} {got[:3] if got else ''}".rstrip())
