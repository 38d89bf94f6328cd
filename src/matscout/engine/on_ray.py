"""Tasks on a Ray cluster, or on a Ray that is started here: one task each, tried again when its worker dies."""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matscout.engine.tasks import Job, run_task
from matscout.errors import ParameterError

POLL_S = 0.5
MAX_RETRIES = 3
ADDRESS_VARIABLE = "RAY_ADDRESS"


@dataclass(frozen=True)
class RayEngine:
    """Runs tasks with Ray Core.

    Attributes:
        workers: tasks at once.
        cpus: cores that a task takes.
        gpus: graphics cards that a task takes; Ray shows it only those.
        max_retries: how often a task begins anew after its worker died, wherever there is room.
    """

    workers: int
    cpus: int
    gpus: float = 0.0
    max_retries: int = MAX_RETRIES

    def run(self, job: Job, names: list[str]) -> Iterator[Mapping[str, str]]:
        """See `Engine.run`. The cluster of `RAY_ADDRESS` is used, and left running; else one is started here."""
        ray = self._connect()
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

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray says will be its default
        try:
            import ray
        except ModuleNotFoundError as error:
            message = 'the engine ray needs Ray: .venv/bin/pip install "ray==2.60.0", or use --engine local'
            raise ParameterError(message) from error
        if os.environ.get(ADDRESS_VARIABLE):
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            room = max(os.cpu_count() or 1, self.workers * self.cpus)  # Ray counts cores, it does not bind them
            ray.init(
                num_cpus=room,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",  # nobody else's business
            )
        return ray


def _error(ray: Any, reference: Any) -> str:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"Ray gave it up ({type(error).__name__}): {str(error).strip().splitlines()[-1]}"
