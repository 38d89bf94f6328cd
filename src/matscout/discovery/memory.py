"""Memory of a long run: what its threads freed is used again, so that the run needs no more than one shard."""

import ctypes
import sys

M_ARENA_MAX = -8  # of glibc's malloc.h
ARENAS = 2


def share_arenas() -> None:
    """Have all threads allocate from the same few arenas of glibc; another C library is left as it is.

    By default each new thread may get an arena of its own. The short-lived threads that predict leave them free but
    scattered, so that the resident memory of a run grows with its shards although nothing is kept.
    """
    if sys.platform == "linux" and (set_option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        set_option(M_ARENA_MAX, ARENAS)
