"""Memory that is freed stays with the process, for the next batch needs the same again."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_LARGEST = 1 << 30  # bytes


def keep_freed_memory() -> None:
    """Tell the C library not to hand tensors of up to 1 GiB back to the kernel as they are freed.

    By default glibc does, and each batch then waits for the kernel to clear the same pages again. Results do
    not change; elsewhere than on glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
