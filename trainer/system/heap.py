"""The C library's heap: memory that is freed stays with the process.

A step makes and drops the same large tensors each time. By default glibc takes them from the kernel and gives
them back when they are dropped, page by page: some 600,000 page faults a step of a small model, which took a
third of it where they are slow (a virtual machine; ``benchmarks/NOTES.md``).
What a run needs at the most it needs again at the next step, so nothing is lost by keeping it.
"""

import ctypes
import os

#: Names in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
_LARGEST = 2**31 - 1
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Have malloc keep what this process frees; whether it does. Left as they are: another C library's
    malloc, and settings that the environment has."""
    if any(name in os.environ for name in _SET_BY_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
