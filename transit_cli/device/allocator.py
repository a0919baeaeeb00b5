"""Keep the C library from returning a training step's memory to the system after every step.

glibc maps each large block anew and unmaps it when it is freed, and trims its heap: a step of the two-branch network at
2001 bins and batch 64 then takes 9,000 page faults, each a zeroed page, every time. The limits below leave freed
memory with the process, which needs it again in the next step. The allocator of macOS keeps it by default.
"""

from __future__ import annotations

import ctypes
import functools
import sys

#: Numbers of mallopt(3)'s parameters, from glibc's malloc.h, and what they are set to.
_PARAMETERS = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: bytes free at the heap's end before it shrinks
    -2: 64 * 2**20,  # M_TOP_PAD: bytes by which it grows
    -4: 0,  # M_MMAP_MAX: blocks mapped on their own
    -8: 1,  # M_ARENA_MAX: one heap for all threads; those of other threads hold 64 MiB and cannot be kept
}


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory (glibc only; once). Returns whether it was set."""
    if sys.platform != "linux":
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - musl has a mallopt too, which does nothing
        taken = [library.mallopt(number, value) for number, value in _PARAMETERS.items()]
        return all(taken)
    except (AttributeError, OSError):
        return False
