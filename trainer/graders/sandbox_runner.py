"""Runs inside the sandbox, as its process 1: forks a child for each grading. Standard library alone.

The parent sends a JSON line ``{"source", "packages", "memory", "seconds"}`` and then ``{"sample", "item"}``
again and again; each is answered with a line. The source never runs in this process: modules that it
imports at its top are imported here once (they are the library's), everything else happens in the child of
one grading, under limits and a filter of system calls that lets it start no process. So no grading can see
or spoil another one.
"""

import ast
import contextlib
import ctypes
import gc
import importlib
import json
import math
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
import traceback

SCRATCH = "/tmp"
MAX_RESULT = 1 << 16
MAX_DETAILS = 2000
MAX_FILE_BYTES = 16 << 20
MAX_OPEN_FILES = 64
FILENAME = "grader.py"
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 4, 38, 22, 2
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
_CLONE_THREAD = 0x00010000

#: Audit architecture, clone, clone3, and what a grading may not call: processes, tracing, namespaces,
#: sockets (also those that no network namespace holds back), keys, memory and messages beyond its limits.
_CALLS = {
    "x86_64": (
        *(0xC000003E, 56, 435),
        # fork vfork ptrace process_vm_readv process_vm_writev unshare setns mount umount2 pivot_root chroot
        *(57, 58, 101, 310, 311, 272, 308, 165, 166, 155, 161),
        # keyctl add_key request_key bpf perf_event_open userfaultfd io_uring_*
        *(250, 248, 249, 321, 298, 323, 425, 426, 427),
        # socket shmget semget msgget mq_open memfd_create open_tree … fsmount mount_setattr memfd_secret
        *(41, 29, 64, 68, 240, 319, 428, 429, 430, 431, 432, 442, 447),
        # pidfd_open pidfd_send_signal kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
        *(434, 424, 62, 200, 234, 129, 297),
    ),
    "aarch64": (
        *(0xC00000B7, 220, 435),
        *(117, 270, 271, 97, 268, 40, 39, 41, 51),
        *(219, 217, 218, 280, 241, 282, 425, 426, 427),
        *(198, 194, 190, 186, 180, 279, 428, 429, 430, 431, 432, 442, 447),
        *(434, 424, 129, 130, 131, 138, 240),
    ),
}


def _filter() -> bytes:
    """The program of the kernel's filter: refuse the calls above, threads alone may be cloned."""
    machine = platform.machine()
    if machine not in _CALLS:
        raise OSError(f"no system-call filter for {machine}; there is one for {', '.join(_CALLS)}")
    architecture, clone, clone3, *forbidden = _CALLS[machine]
    load, equal, at_least, has_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    program = [
        (load, 0, 0, 4),  # the architecture
        (equal, 1, 0, architecture),
        (give, 0, 0, _EPERM),
        (load, 0, 0, 0),  # the call's number
        (at_least, 0, 1, 0x40000000),  # another calling convention of the same machine
        (give, 0, 0, _EPERM),
        (equal, 0, 1, clone3),
        (give, 0, 0, _ENOSYS),  # whose flags a filter cannot see; the C library falls back to clone
        (equal, 0, 4, clone),
        (load, 0, 0, 16),  # its flags
        (has_bit, 1, 0, _CLONE_THREAD),
        (give, 0, 0, _EPERM),
        (give, 0, 0, _ALLOW),
    ]
    for number in forbidden:
        program += [(equal, 0, 1, number), (give, 0, 0, _EPERM)]
    program.append((give, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _confine(memory: int, seconds: float, program: bytes) -> None:
    """Limits that the child cannot lift, on itself."""
    cpu = math.ceil(seconds) + 1
    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    buffer = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the filter of system calls cannot be set")


def _imports(tree: ast.Module) -> None:
    """Import what the source imports at its top, for all gradings."""
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            with contextlib.suppress(Exception):  # the grading will say it
                importlib.import_module(name)


def _grade(code: object, message: dict) -> dict:
    """Run the source and its function; what came out of it."""
    namespace = {"__name__": "grader", "__file__": FILENAME}
    try:
        exec(code, namespace)  # type: ignore[arg-type]
        value = namespace["grade"](message["sample"], message["item"])  # type: ignore[operator]
    except BaseException as error:
        return {"kind": "python_grader_runtime_error", "error": _describe(error)}
    return _result(value)


def _result(value: object) -> dict:
    kind = type(value).__name__
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        return _no_number(f"grade() returned a {kind}; it should return a float")
    try:
        number = float(value)  # type: ignore[arg-type]
    except BaseException as error:
        return _no_number(f"grade() returned a {kind} that is no float: {_describe(error)}")
    if not math.isfinite(number):
        return _no_number(f"grade() returned {number}; it should return a finite number")
    return {"reward": number}


def _no_number(text: str) -> dict:
    return {"kind": "python_grader_runtime_error", "error": text}


def _describe(error: BaseException) -> str:
    """The error's name and text, and the line of the source."""
    text = f"{type(error).__name__}: {str(error)[:MAX_DETAILS]}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILENAME
    ]
    return f"{text} (line {lines[-1]})" if lines else text


def _child(code: object, message: dict, plan: dict, program: bytes, result: int) -> None:
    """The one grading's process; never returns."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        _confine(plan["memory"], plan["seconds"], program)
        answer = _grade(code, message)
        data = json.dumps(answer).encode()
    except BaseException as error:
        answer = {"kind": "python_grader_runtime_error", "error": type(error).__name__}
        data = json.dumps(answer).encode()
    os.write(result, data + b"\n")
    os._exit(0)


def _run(code: object, message: dict, plan: dict, program: bytes) -> dict:
    """Fork, wait for the result or the end of time, and kill whatever is left."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(code, message, plan, program, writer)
    os.close(writer)
    data = _read(reader, plan["seconds"])
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(-1, signal.SIGKILL)  # everything in here but this process
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    if data is None:
        return _no_number(f"grade() took longer than {plan['seconds']:g} s and was killed")
    try:
        answer = json.loads(data)
        return answer if isinstance(answer, dict) else _no_number("grade() spoiled its result")
    except ValueError:
        pass
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    cause = f"was ended by signal {number}" if number else f"exited with code {os.WEXITSTATUS(status)}"
    return _no_number(f"the grader {cause} before grade() returned")


def _read(reader: int, seconds: float) -> bytes | None:
    """A line, or what came of it when the child ended; None when time is up before."""
    deadline, data = time.monotonic() + seconds, b""
    wait = select.poll()
    wait.register(reader, select.POLLIN)
    while len(data) <= MAX_RESULT:
        left = deadline - time.monotonic()
        if left <= 0 or not wait.poll(left * 1000):
            return None
        chunk = os.read(reader, MAX_RESULT)
        if not chunk:
            break
        data += chunk
        if data.endswith(b"\n"):
            break
    return data


def main() -> None:
    plan = json.loads(sys.stdin.buffer.readline())
    sys.path.extend(plan["packages"])
    # No process of the same user may look into this one or write to its memory.
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        program = _filter()
        tree = ast.parse(plan["source"], FILENAME)
        code = compile(tree, FILENAME, "exec")
    except Exception as error:
        _answer({"error": f"{type(error).__name__}: {error}"})
        return
    _imports(tree)
    gc.freeze()
    _answer({"ready": True})
    for line in sys.stdin.buffer:
        answer = _run(code, json.loads(line), plan, program)
        # What a grading left in its folder would be there for the next: then this sandbox is given up.
        answer["spent"] = any(os.scandir(SCRATCH))
        _answer(answer)


def _answer(message: dict) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
