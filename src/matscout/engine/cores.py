"""Many short pieces of work over this machine's cores, with the same results in the same order."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from matscout.engine.on_ray import ray_stream
from matscout.errors import ParameterError, WorkerError
from matscout.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS_VARIABLE = "MATSCOUT_WORKERS"
ENGINE_VARIABLE = "MATSCOUT_ENGINE"
ENGINES = ("local", "ray")


def n_workers() -> int:
    """Worker processes to use: `MATSCOUT_WORKERS`, else the cores this process may run on.

    The number never changes a result, so it is no parameter and invalidates no stage.

    Raises:
        ParameterError: the variable is set to something else than a whole number of at least 1.
    """
    value = os.environ.get(WORKERS_VARIABLE)
    if value is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not value.isdigit() or int(value) < 1:
        raise ParameterError(f"{WORKERS_VARIABLE}={value!r} must be a whole number of at least 1, or unset")
    return int(value)


def engine_name() -> str:
    """`MATSCOUT_ENGINE`: `local` (the default) or `ray`; no parameter either, it changes no result.

    Raises:
        ParameterError: the variable names no engine.
    """
    name = os.environ.get(ENGINE_VARIABLE, ENGINES[0])
    if name not in ENGINES:
        raise ParameterError(f"{ENGINE_VARIABLE}={name!r} is unknown; choose from {', '.join(ENGINES)}, or unset it")
    return name


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, unit: str = "chunk"
) -> list[Result]:
    """`[function(item) for item in items]`: see `parallel_stream`."""
    return list(parallel_stream(function, items, workers=workers, description=description, unit=unit))


def parallel_stream(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, unit: str = "chunk"
) -> Iterator[Result]:
    """`function` of each item over `workers` processes, yielded in order as they come, with a progress bar.

    `function` and `items` must be picklable. Workers are spawned, not forked: a fork of a process
    that holds threads (torch, numba, arrow) can deadlock. One worker means this process. With
    `MATSCOUT_ENGINE=ray` the pieces run on a Ray cluster instead, with the same results.

    Raises:
        ParameterError: the variable names no engine.
        WorkerError: a worker process was killed.
    """
    engine = engine_name()
    if workers <= 1 or len(items) <= 1:
        yield from (function(item) for item in progress(items, description=description, unit=unit))
        return
    if engine == "ray":
        results = ray_stream(function, items, workers=workers)
        yield from progress(results, description=description, total=len(items), unit=unit)
        return
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(workers, len(items)), mp_context=context) as pool:
            results = pool.map(function, items)
            yield from progress(results, description=description, total=len(items), unit=unit)
    except BrokenProcessPool as error:
        raise WorkerError(
            f"{description}: one of {workers} worker processes was killed, as the kernel does when memory is short; "
            f"run again (what was finished is kept), with fewer of them if it happens again: {WORKERS_VARIABLE}=1"
        ) from error
