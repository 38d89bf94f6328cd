"""Memory that was freed goes back to the system, so that a long run needs no more than one shard."""

import ctypes
import sys


def give_back_memory() -> None:
    """Ask the C library to return what is free; where it cannot be asked, nothing happens and nothing changes.

    The threads that predict leave glibc with arenas that are free but scattered: without this, the resident memory
    of a run grows with its shards although nothing is kept.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
