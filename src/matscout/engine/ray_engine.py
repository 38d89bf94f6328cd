"""Run tasks on a Ray cluster, or with Ray on this machine; a task is repeated if its worker dies."""

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from matscout.engine.worker_tasks import Job, enter_worker, run_task
from matscout.errors import ParameterError, WorkerError

POLL_S = 0.5
MAX_RETRIES = 3
ADDRESS_VARIABLE = "RAY_ADDRESS"
AHEAD = 2  # tasks per worker that are handed out before the first result is taken

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RayEngine:
    """Runs tasks with Ray Core.

    Attributes:
        workers: tasks at once.
        cpus: cores that a task takes.
        gpus: GPUs that a task takes; Ray shows it only these.
        max_retries: how often a task starts again after its worker died, wherever there is room.
    """

    workers: int
    cpus: int
    gpus: float = 0.0
    max_retries: int = MAX_RETRIES

    def run(self, job: Job, names: list[str]) -> Generator[Mapping[str, str], None, None]:
        """See `Engine.run`. The cluster of `RAY_ADDRESS` is used, and left running; else one is started here."""
        ray = connect(self.workers * self.cpus)
        remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.max_retries, max_calls=1)(run_task)
        waiting, running = list(names), dict[Any, str]()
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    name = waiting.pop(0)
                    running[remote.remote(job, name, {})] = name
                ready, _ = ray.wait(list(running), num_returns=len(running), timeout=POLL_S)
                yield {running.pop(reference): _error(ray, reference) for reference in ready}
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
            ray.shutdown()


def ray_stream(function: Callable[[Item], Result], items: Sequence[Item], *, workers: int) -> Iterator[Result]:
    """Compute `function` of each item in short Ray tasks of one core each; a task is repeated if its worker dies.

    Ray keeps its worker processes, so what a function keeps in its process (a loaded ensemble) serves all items.

    Args:
        function: picklable.
        items: picklable.
        workers: tasks at once; a few more than that are queued.

    Yields:
        Results in the order of `items`.

    Raises:
        Exception: what the function raised.
        WorkerError: a task's worker died on every try.
    """
    ray = connect(workers)
    remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_call)
    shared = ray.put(function)  # sent to a machine once, not with every item
    running = deque[Any]()
    try:
        for item in items:
            running.append(remote.remote(shared, item))
            if len(running) >= AHEAD * workers:
                yield result_of(ray, running.popleft())
        while running:
            yield result_of(ray, running.popleft())
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    enter_worker()
    return function(item)


def connect(n_cores: int) -> Any:
    """Connect to the Ray cluster of `RAY_ADDRESS`, or start Ray here.

    Args:
        n_cores: tasks that a Ray started here has room for.

    Returns:
        The module `ray`, connected.

    Raises:
        ParameterError: Ray is not installed.
        WorkerError: Ray did not start, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray announces this as its future default
    try:
        import ray
    except ModuleNotFoundError as error:
        message = 'the engine ray needs Ray: .venv/bin/pip install "ray==2.60.0", or use the engine local'
        raise ParameterError(message) from error
    address = os.environ.get(ADDRESS_VARIABLE)
    here: dict[str, Any] = {
        "address": "local",  # otherwise Ray would connect to a cluster that happens to run on this machine
        "num_cpus": max(os.cpu_count() or 1, n_cores),  # Ray counts cores, it does not bind them
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",  # reachable from this machine only
    }
    try:
        ray.init(**({} if address else here), log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        where = f"the cluster of {ADDRESS_VARIABLE}={address} does not answer" if address else "Ray does not start here"
        raise WorkerError(
            f"{where}: {str(error).strip().splitlines()[0]} A busy machine may need longer than Ray waits: run again, "
            f"or use the engine local"
        ) from error
    return ray


def result_of(ray: Any, reference: Any) -> Any:
    """Wait for a task's result.

    Args:
        ray: the module, connected.
        reference: reference of the task.

    Returns:
        The return value of the task's function.

    Raises:
        Exception: what the function raised.
        WorkerError: the task's worker died on every try.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise WorkerError(
            f"Ray gave up a piece of work after {MAX_RETRIES + 1} tries ({type(error).__name__}): its workers died, as "
            "when memory is short; run again (what was finished is kept), with fewer workers: MATSCOUT_WORKERS=1"
        ) from error


def _error(ray: Any, reference: Any) -> str:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"Ray gave it up ({type(error).__name__}): {str(error).strip().splitlines()[-1]}"
