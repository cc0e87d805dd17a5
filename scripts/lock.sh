#!/bin/sh
# Writes requirements.lock: resolves pyproject.toml in a fresh environment and pins everything in it.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-.venv/bin/python}" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --disable-pip-version-check"
$pip install --quiet --quiet "$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)"
$pip install --quiet --quiet 'setuptools>=77' '.[dev]'
{
    echo "# Every package of the environment, exactly. Written by 'make lock'; not for editing by hand."
    # The local part of torch's version (+cpu, +cu130) belongs to a machine, not to the lock.
    $pip freeze --all --exclude pip --exclude policysplit | sed 's/^\(torch==[^+]*\)+.*/\1/'
} >"$work/requirements.lock"
mv "$work/requirements.lock" requirements.lock
