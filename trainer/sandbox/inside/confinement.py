"""What a process in the sandbox takes from itself for good: disk, memory, files, and system calls.

Process 1 keeps one right that its children do not have: to start them. A child is one process of one thread,
for the kernel refuses it every way to make another: root, too, whom ``RLIMIT_NPROC`` would not bind.
"""

import ctypes
import os
import platform
import resource
import struct
from functools import lru_cache

SCRATCH = "/tmp"
SCRATCH_BYTES = 16 << 20
SCRATCH_FILES = 1024
MAX_FILE_BYTES = 16 << 20
MAX_OPEN_FILES = 64
#: Of the processor, too: whoever started the sandbox, and answers others, goes first.
NICENESS = 5
_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 4, 38, 22, 2
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_CAPABILITY_VERSION = 0x20080522
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
#: Of clone's flags: every kind of namespace.
_NAMESPACES = 0x7E020080

#: Audit architecture, clone, clone3; what nobody may call: other ways to start processes, tracing,
#: namespaces, sockets (also those that no network namespace holds back), keys, memory and messages beyond the
#: limits; and what process 1 alone may call: signals to others.
_CALLS = {
    "x86_64": (
        (0xC000003E, 56, 435),
        (
            # fork vfork ptrace process_vm_readv process_vm_writev
            *(57, 58, 101, 310, 311),
            # unshare setns mount umount2 pivot_root chroot
            *(272, 308, 165, 166, 155, 161),
            # keyctl add_key request_key bpf perf_event_open userfaultfd io_uring_*
            *(250, 248, 249, 321, 298, 323, 425, 426, 427),
            # socket shmget semget msgget mq_open memfd_create open_tree … fsmount mount_setattr memfd_secret
            *(41, 29, 64, 68, 240, 319, 428, 429, 430, 431, 432, 442, 447),
            # pidfd_open pidfd_send_signal pidfd_getfd
            *(434, 424, 438),
        ),
        # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
        (62, 200, 234, 129, 297),
    ),
    "aarch64": (
        (0xC00000B7, 220, 435),
        (
            *(117, 270, 271),
            *(97, 268, 40, 39, 41, 51),
            *(219, 217, 218, 280, 241, 282, 425, 426, 427),
            *(198, 194, 190, 186, 180, 279, 428, 429, 430, 431, 432, 442, 447),
            *(434, 424, 438),
        ),
        (129, 130, 131, 138, 240),
    ),
}


def confine_first(memory: int) -> None:
    """Process 1, before it imports anything: a folder of its own, then no privilege, limits and a filter."""
    os.nice(NICENESS)
    # bubblewrap can limit the bytes of such a folder, not how many files it has.
    options = f"size={SCRATCH_BYTES},nr_inodes={SCRATCH_FILES},mode=700".encode()
    if _libc.mount(b"scratch", SCRATCH.encode(), b"tmpfs", _MS_NOSUID_NODEV_NOEXEC, options):
        raise OSError(ctypes.get_errno(), f"{SCRATCH} cannot be mounted")
    os.chdir(SCRATCH)
    nothing = struct.pack("6I", *[0] * 6)
    if _libc.capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), nothing):
        raise OSError(ctypes.get_errno(), "privileges cannot be given up")
    # No process of the same user may look into this one or write to its memory.
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _limit(memory)
    _program(may_fork=False)  # for the children, once
    _set_filter(may_fork=True)


def confine_child(memory: int, cpu_seconds: int | None) -> None:
    """A child, before it does anything."""
    _limit(memory)
    if cpu_seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    _set_filter(may_fork=False)


def _limit(memory: int) -> None:
    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def _set_filter(*, may_fork: bool) -> None:
    program = _program(may_fork=may_fork)
    buffer = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the filter of system calls cannot be set")


@lru_cache
def _program(*, may_fork: bool) -> bytes:
    """The kernel's filter, which refuses the calls above."""
    machine = platform.machine()
    if machine not in _CALLS:
        raise OSError(f"no system-call filter for {machine}; there is one for {', '.join(_CALLS)}")
    (architecture, clone, clone3), forbidden, signals = _CALLS[machine]
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
    ]
    if may_fork:
        program += [
            (equal, 0, 4, clone),
            (load, 0, 0, 16),  # its flags
            (has_bit, 0, 1, _NAMESPACES),
            (give, 0, 0, _EPERM),
            (give, 0, 0, _ALLOW),
        ]
    else:
        forbidden = (clone, *forbidden, *signals)
    for number in forbidden:
        program += [(equal, 0, 1, number), (give, 0, 0, _EPERM)]
    program.append((give, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
