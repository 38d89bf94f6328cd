"""How this process takes and frees memory: settings that change no result."""

import atexit
import ctypes
import gc
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_LARGEST = 1 << 30  # bytes
_ARENAS = 2
_OBJECTS = 100_000  # new ones between two searches for reference cycles; Python's default is 700


def keep_freed_memory() -> None:
    """Do not hand tensors of up to 1 GiB back to the kernel as they are freed.

    By default glibc does, and each batch then waits for the kernel to clear the same pages again. Elsewhere than
    on glibc this does nothing.
    """
    _set(_M_MMAP_THRESHOLD, _LARGEST)
    _set(_M_TRIM_THRESHOLD, _LARGEST)


def share_arenas() -> None:
    """Have all threads allocate from the same few arenas of glibc; another C library is left as it is.

    By default each new thread may get an arena of its own. The short-lived threads that predict leave them free but
    scattered, so that the resident memory of a run grows with its shards although nothing is kept.
    """
    _set(_M_ARENA_MAX, _ARENAS)


def collect_garbage_rarely() -> None:
    """Search for unreachable reference cycles seldom, and not at all when the process ends.

    Imports make 300,000 objects that stay. By default Python looks through them again and again while they are made,
    and once more at exit: a third of the time that a short command takes.
    """
    gc.set_threshold(_OBJECTS, 50, 100)
    atexit.register(gc.freeze)


def _set(option: int, value: int) -> None:
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None:
        mallopt(option, value)
