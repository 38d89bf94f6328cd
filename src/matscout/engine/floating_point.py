"""Arithmetic of a process that computes with floating-point numbers: its threads, and subnormals."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def use_one_thread() -> None:
    """Have numerical libraries compute on one thread, in this process and in those that it starts.

    Cores are shared out by whole pieces of work (`matscout.engine`). Threads that meet after every small operation win
    little, stand still when one of them loses its core to another program, and sum in an order that depends on their
    number. A training with other `compute.threads` sets torch's own afterwards.
    """
    os.environ.update(ONE_THREAD)  # read by libraries when they are loaded
    threadpool_limits(1)  # those that are loaded already


def flush_subnormals() -> None:
    """Let this thread, and those that it starts from now on, take subnormal results as zero.

    Numbers below 1.2e-38 (float32) or 2.2e-308 (float64) are handled in microcode on many processors: a few of them
    make a layer several times as slow. The encoders avoid them at the source; what is left of them, in an
    optimiser's moments, means zero. A new thread inherits the setting and one that already runs does not, so a
    process calls this before it computes. It imports torch: a worker that never does needs no flushing.
    """
    import torch

    torch.set_flush_denormal(True)


@contextmanager
def subnormals_flushed() -> Iterator[None]:
    """`flush_subnormals` for a block of code: afterwards this thread computes as before.

    For code that runs in somebody else's process, whose own numbers may be subnormal (SciPy's k-d tree overruns its
    stack where they are flushed).
    """
    import torch

    least = sys.float_info.min
    were_flushed = least / 4 == 0.0
    flush_subnormals()
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)
