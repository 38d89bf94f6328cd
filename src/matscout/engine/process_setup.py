"""Settings of a process: threads and subnormals of floating-point arithmetic, and the use of memory.

The settings of memory change no result.
"""

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def use_one_thread() -> None:
    """Have numerical libraries compute on one thread, in this process and in those that it starts.

    Each core takes whole pieces of work (`matscout.engine`). Threads that synchronise after every small operation gain
    little, stall when one of them loses its core to another program, and sum in an order that depends on their number.
    A training with other `compute.threads` sets torch's own afterwards.
    """
    os.environ.update(ONE_THREAD)  # read by libraries when they are loaded
    threadpool_limits(1)  # those that are loaded already


def let_cublas_be_deterministic() -> None:
    """Give cuBLAS the workspace that it needs to be deterministic, unless the user has set another."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def flush_subnormals() -> None:
    """Treat subnormal results as zero in this thread and in those that it starts from now on.

    Numbers below 1.2e-38 (float32) or 2.2e-308 (float64) are handled in microcode on many processors: a few of them
    make a layer several times as slow. The encoders avoid them; the few that remain in an
    optimiser's moments may be taken as zero. A new thread inherits the setting and one that already runs does not, so a
    process calls this before it computes. It imports torch: a worker that never does needs no flushing.
    """
    import torch

    torch.set_flush_denormal(True)


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """`flush_subnormals` for a block of code; the setting of the thread is restored afterwards.

    For code that runs in another program's process, whose numbers may be subnormal (SciPy's k-d tree overruns its stack
    where they are flushed).
    """
    import torch

    least = sys.float_info.min
    were_flushed = least / 4 == 0.0
    flush_subnormals()
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_LARGEST = 1 << 30  # bytes
_ARENAS = 2
_OBJECTS = 100_000  # new ones between two searches for reference cycles; Python's default is 700


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors of up to 1 GiB in this process.

    By default glibc returns it to the kernel, and each batch then waits for the kernel to clear the same pages again.
    With another C library this does nothing.
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
    """Search for unreachable reference cycles rarely, and not at all when the process ends.

    Imports make 300,000 objects that stay. By default Python looks through them again and again while they are made,
    and once more at exit: a third of the time that a short command takes.
    """
    gc.set_threshold(_OBJECTS, 50, 100)
    atexit.register(gc.freeze)


def _set(option: int, value: int) -> None:
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None:
        mallopt(option, value)
