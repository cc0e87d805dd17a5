"""Carries out Dockerfile and docker-compose.yml where there is no container engine, to see that they hold.

    without_docker.py build ROOT TARGET [EXTRAS=…]     an image's steps in ROOT, a folder with a system
    without_docker.py run ROOT PART                    a part's command with its environment
    without_docker.py run ROOT PART health             its health check
    without_docker.py run ROOT PART -- COMMAND…        another command, as `docker compose run` does

As root, for chroot; ``PATH`` and the variables that the compose file asks for come from the environment. See
docs/compose.md. What it does not understand ends it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
USERS = {"root": "0:0", "policysplit": "1000:1000"}


def build(root: Path, target: str, arguments: dict[str, str]) -> None:
    """Leaves beside the files what an image has besides: ``image.json``."""
    environment, given = {"PATH": os.environ["PATH"], "HOME": "/root"}, {}
    folder, user = "/", "root"
    for step in _steps(target):
        word, _, rest = step.partition(" ")
        print(f"==> {step}", flush=True)
        match word:
            case "#" | "FROM" | "VOLUME" | "EXPOSE" | "CMD":
                pass
            case "ENV":
                environment |= dict(part.split("=", 1) for part in shlex.split(rest))
            case "ARG":
                name, _, default = rest.partition("=")
                given[name] = arguments.get(name, default.strip('"'))
            case "WORKDIR":
                folder = rest
                (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                user = rest
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    _copy(REPOSITORY / source, root / folder.lstrip("/") / target)
            case "RUN":
                command = ["/bin/sh", "-c", f"cd {folder} && {rest}"]
                subprocess.run(_chroot(root, user, environment | given, command), check=True)
            case _:
                raise SystemExit(f"not understood: {step}")
    image = {"environment": environment, "folder": folder, "user": user}
    (root / "image.json").write_text(json.dumps(image))


def _steps(target: str) -> list[str]:
    """Those of the image ``target``, after those of the image that it is made from."""
    text = re.sub(r"\\\n", " ", (REPOSITORY / "Dockerfile").read_text())
    stages: dict[str, list[str]] = {}
    stage: list[str] = []
    for step in filter(None, map(str.strip, text.splitlines())):
        if made := re.fullmatch(r"FROM (\S+) AS (\S+)", step):
            stage = stages[made[2]] = list(stages.get(made[1], ()))
        stage.append(step)
    if target not in stages:
        raise SystemExit(f"there is no image {target}; there are {', '.join(stages)}")
    return stages[target]


def run(root: Path, part: str, command: list[str]) -> None:
    """Becomes the command."""
    image = json.loads((root / "image.json").read_text())
    text = (REPOSITORY / "docker-compose.yml").read_text()
    service: dict[str, Any] = _interpolated(yaml.safe_load(text)["services"][part])
    if command == ["health"]:
        kind, *command = service["healthcheck"]["test"]
        command = ["/bin/sh", "-c", *command] if kind == "CMD-SHELL" else command
    environment = image["environment"] | service["environment"] | {"HOME": image["folder"]}
    command = ["env", "--chdir", image["folder"], *(command or service["command"])]
    arguments = _chroot(root, image["user"], environment, command)
    os.execvp(arguments[0], arguments)


def _chroot(root: Path, user: str, environment: dict[str, str], command: list[str]) -> list[str]:
    variables = [f"{name}={value}" for name, value in environment.items()]
    chroot = [shutil.which("chroot") or "chroot", f"--userspec={USERS[user]}", str(root)]
    return ["env", "-i", *variables, *chroot, *command]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _interpolated(value: Any) -> Any:
    """With the variables of the environment, in what was parsed: ``${NAME:?…}`` and ``${NAME:-default}``."""
    if isinstance(value, dict):
        return {name: _interpolated(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_interpolated(one) for one in value]
    if not isinstance(value, str):
        return value

    def given(found: re.Match[str]) -> str:
        name, otherwise, default = found.groups()
        return os.environ[name] if otherwise == "?" else os.environ.get(name) or default

    return re.sub(r"(?<!\$)\$\{(\w+):([?-])([^}]*)\}", given, value).replace("$$", "$")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", root, target, *pairs]:
            build(Path(root), target, dict(pair.split("=", 1) for pair in pairs))
        case ["run", root, part]:
            run(Path(root), part, [])
        case ["run", root, part, "health"]:
            run(Path(root), part, ["health"])
        case ["run", root, part, "--", *command]:
            run(Path(root), part, command)
        case _:
            raise SystemExit(__doc__)
