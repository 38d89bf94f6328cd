"""Distribute many short pieces of work over this machine's cores, with the same results in the same order.

With `held_for_each`, a function and its data are sent to each worker only once.
"""

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any, TypeVar

from matscout.engine.process_setup import RAY, WORKERS_VARIABLE, Switch, collect_garbage_rarely, n_workers
from matscout.engine.ray_engine import MAX_RETRIES, connect, ray_stream, result_of
from matscout.engine.worker_tasks import end_with_parent, enter_worker
from matscout.errors import WorkerError
from matscout.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def load_for_workers(*modules: str) -> None:
    """Let the server that forks the workers load these modules now, while this process loads its own.

    `parallel_stream` starts that server if it does not run yet, and then waits until it has loaded what this process
    has.
    """
    if n_workers() > 1 and Switch.read().engine != RAY:
        forkserver.set_forkserver_preload(list(modules))
        forkserver.ensure_running()


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, unit: str = "chunk"
) -> list[Result]:
    """Compute `[function(item) for item in items]` over worker processes; see `parallel_stream`.

    Args:
        function: picklable.
        items: picklable.
        workers: processes at most; 1 = this process.
        description: description of the progress bar.
        unit: unit of the progress bar, in the singular.

    Returns:
        Results in the order of `items`.
    """
    return list(parallel_stream(function, items, workers=workers, description=description, unit=unit))


def parallel_stream(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, unit: str = "chunk"
) -> Iterator[Result]:
    """Compute `function` of each item over worker processes, with a progress bar.

    Workers are not forked from this process, since a fork of a process that holds threads (torch, numba, arrow) can
    deadlock. They are forked from a server without threads, which imports once what this process has imported of
    matscout. Each computes on one thread. `MATSCOUT_WORKERS` caps their number. With `MATSCOUT_ENGINE=ray` the items
    run on a Ray cluster instead, with the same results.

    Args:
        function: picklable.
        items: picklable.
        workers: processes at most; 1 = this process.
        description: description of the progress bar and of errors.
        unit: unit of the progress bar, in the singular.

    Yields:
        Results in the order of `items`, as they come.

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
    os.environ.update(environment)  # the server's environment dates from its start
    collect_garbage_rarely()
    enter_worker()
    end_with_parent()


def held_for_each(
    function: Callable[[Item], None],
    items: Sequence[Item],
    *,
    workers: int,
    description: str,
    unit: str,
    gpus: float = 0.0,
) -> None:
    """Call `function` for each item, in any order: here, or with `MATSCOUT_ENGINE=ray` on actors that hold it.

    For functions that hold large data (a loaded ensemble) and write their own results atomically.

    Args:
        function: picklable; its arrays are once in a machine's shared memory, mapped read-only by all actors there.
        items: what to call it with; picklable.
        workers: actors.
        description: description of the progress bar.
        unit: unit of the items, on the bar.
        gpus: GPUs of an actor; Ray shows it only these.

    Raises:
        WorkerError: an item ended its actor each time that it was tried.
    """
    if Switch.read().engine == RAY and items:
        done = _on_actors(function, items, workers=workers, gpus=gpus)
        for _ in progress(done, description=description, total=len(items), unit=unit):
            pass
    else:
        for item in progress(items, description=description, unit=unit):
            function(item)


class _Holder:
    def __init__(self, function: Callable[[Any], None]) -> None:
        enter_worker()
        self.function = function

    def ready(self) -> None:
        """Returns as soon as the actor is placed and holds the function."""

    def call(self, item: Any) -> None:
        self.function(item)


def _on_actors(function: Callable[[Item], None], items: Sequence[Item], *, workers: int, gpus: float) -> Iterator[Item]:
    """Yield each item once it is done. Ray restarts an actor that died elsewhere and gives it its item again."""
    ray = connect(workers)
    held = ray.put(function)
    kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=MAX_RETRIES)(_Holder)
    actors = [kind.remote(held) for _ in range(min(workers, len(items)))]
    waiting, doing = deque(items), dict[Any, Item]()
    running = {actor.ready.remote(): actor for actor in actors}  # an actor that is not placed takes no item
    try:
        while waiting or doing:
            for reference in ray.wait(list(running))[0]:
                actor = running.pop(reference)
                result_of(ray, reference)
                if reference in doing:
                    yield doing.pop(reference)
                if waiting:
                    item = waiting.popleft()
                    begun = actor.call.remote(item)
                    running[begun], doing[begun] = actor, item
    finally:
        ray.shutdown()  # ends the actors
