"""Many short pieces of work over this machine's cores, with the same results in the same order."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import TypeVar

from matscout.engine.ray_engine import ray_stream
from matscout.engine.settings import RAY, WORKERS_VARIABLE, Switch, n_workers
from matscout.engine.worker_tasks import end_with_parent, enter_worker
from matscout.errors import WorkerError
from matscout.memory import collect_garbage_rarely
from matscout.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def load_for_workers(*modules: str) -> None:
    """Have the server that workers are forked from load these modules now, while this process loads its own.

    `parallel_stream` starts that server where nobody did, and then waits until it has loaded all that this process has.
    """
    if n_workers() > 1 and Switch.read().engine != RAY:
        forkserver.set_forkserver_preload(list(modules))
        forkserver.ensure_running()


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, unit: str = "chunk"
) -> list[Result]:
    """`[function(item) for item in items]`: see `parallel_stream`."""
    return list(parallel_stream(function, items, workers=workers, description=description, unit=unit))


def parallel_stream(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, unit: str = "chunk"
) -> Iterator[Result]:
    """`function` of each item over `workers` processes, yielded in order as they come, with a progress bar.

    `function` and `items` must be picklable. Workers are not forked from this process, since a fork of one that
    holds threads (torch, numba, arrow) can deadlock, but from a server without threads, which imports once what this
    process has imported of matscout. Each computes on one thread. One worker means this process, and
    `MATSCOUT_WORKERS` is the most. With `MATSCOUT_ENGINE=ray` the pieces run on a Ray cluster instead, with the same
    results.

    Raises:
        ParameterError: the variable names no engine.
        WorkerError: a worker process was killed.
    """
    switch = Switch.read()
    workers = min(workers, switch.workers or workers)
    if workers <= 1 or len(items) <= 1:
        yield from (function(item) for item in progress(items, description=description, unit=unit))
        return
    if switch.engine == RAY:
        results = ray_stream(function, items, workers=workers)
        yield from progress(results, description=description, total=len(items), unit=unit)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(sorted(name for name in sys.modules if name.startswith("matscout.")))
    begin = {"initializer": _begin, "initargs": (dict(os.environ),)}
    try:
        with ProcessPoolExecutor(min(workers, len(items)), mp_context=context, **begin) as pool:
            results = pool.map(function, items)
            yield from progress(results, description=description, total=len(items), unit=unit)
    except BrokenProcessPool as error:
        raise WorkerError(
            f"{description}: one of {workers} worker processes was killed, as the kernel does when memory is short; "
            f"run again (what was finished is kept), with fewer of them if it happens again: {WORKERS_VARIABLE}=1"
        ) from error


def _begin(environment: dict[str, str]) -> None:
    os.environ.update(environment)  # the server's is of the time when it was started
    collect_garbage_rarely()
    enter_worker()
    end_with_parent()
