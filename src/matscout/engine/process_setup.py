"""Where work runs, and how each process is set up: threads, subnormal numbers, memory. None of it changes a result.

`MATSCOUT_ENGINE` is `local` (the default) or `ray`; `MATSCOUT_WORKERS` is how many worker processes run at once.
Options of commands override both. They are no parameters, and no stage runs again because of them.
"""

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from threadpoolctl import threadpool_limits

from matscout.errors import ParameterError

WORKERS_VARIABLE = "MATSCOUT_WORKERS"
ENGINE_VARIABLE = "MATSCOUT_ENGINE"
LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)
INSIDE_A_WORKER = {ENGINE_VARIABLE: LOCAL, WORKERS_VARIABLE: "1"}  # a worker does not start workers itself


@dataclass(frozen=True)
class Switch:
    """Where work runs.

    Attributes:
        engine: one of `ENGINES`.
        workers: processes at once; None = not set.
    """

    engine: str
    workers: int | None

    @classmethod
    def read(cls, engine: str | None = None, workers: int | None = None) -> Self:
        """Read the environment; what is given here overrides it.

        Args:
            engine: one of `ENGINES`; None = `MATSCOUT_ENGINE`, or `local` where that is unset.
            workers: processes at once; None = `MATSCOUT_WORKERS`.

        Returns:
            Where work runs.

        Raises:
            ParameterError: the engine is unknown, or `MATSCOUT_WORKERS` is not a whole number of at least 1.
        """
        name = os.environ.get(ENGINE_VARIABLE, LOCAL) if engine is None else engine
        if name not in ENGINES:
            told = f"{ENGINE_VARIABLE}={name!r}" if engine is None else f"engine {name!r}"
            raise ParameterError(f"{told} is unknown; choose from {', '.join(ENGINES)}, or unset it")
        return cls(name, _workers_told() if workers is None else workers)


def n_workers() -> int:
    """Worker processes to use: as set, else the number of cores that this process may run on."""
    return Switch.read().workers or n_cores()


def n_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_cards() -> list[str]:
    """The graphics cards this process may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [card for card in told.split(",") if card]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _workers_told() -> int | None:
    value = os.environ.get(WORKERS_VARIABLE)
    if value is None:
        return None
    if not value.isdigit() or int(value) < 1:
        raise ParameterError(f"{WORKERS_VARIABLE}={value!r} must be a whole number of at least 1, or unset")
    return int(value)


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
