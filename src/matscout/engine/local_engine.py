"""Tasks in processes of this machine, each worker on the graphics card that is its own."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

from matscout.engine.worker_tasks import Job, end_with_parent, run_task

POLL_S = 0.5


@dataclass(frozen=True)
class LocalEngine:
    """Runs tasks in processes of their own.

    They are forked from a server that has loaded what tasks import and has no threads: torch and MLflow take seconds.

    Attributes:
        environments: one a worker: the variables that its tasks get, such as `CUDA_VISIBLE_DEVICES`.
    """

    environments: Sequence[Mapping[str, str]]

    def run(self, job: Job, names: list[str]) -> Iterator[Mapping[str, str]]:
        """See `Engine.run`. Tasks that still run when the caller stops, or is killed, are ended."""
        waiting, free, running = list(names), list(self.environments), list[_Worker]()
        try:
            while waiting or running:
                while waiting and free:
                    running.append(_start(job, waiting.pop(0), free.pop(0)))
                wait([worker.process.sentinel for worker in running], timeout=POLL_S)
                ended = [worker for worker in running if not worker.process.is_alive()]
                running = [worker for worker in running if worker not in ended]
                free += [worker.environment for worker in ended]
                yield {worker.name: worker.error() for worker in ended}
        finally:
            for worker in running:
                worker.process.terminate()
                worker.process.join()


@dataclass(frozen=True)
class _Worker:
    name: str
    environment: Mapping[str, str]
    process: ForkServerProcess
    answer: Connection

    def error(self) -> str:
        """What the ended process said of its end, or what its exit code says."""
        self.process.join()
        try:
            return self.answer.recv()
        except EOFError:
            return _death(self.process.exitcode or 0)


def _start(job: Job, name: str, environment: Mapping[str, str]) -> _Worker:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(job.imports))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_body, args=(job, name, {**os.environ, **environment}, sender), name=name, daemon=True
    )
    process.start()
    sender.close()
    return _Worker(name, environment, process, receiver)


def _body(job: Job, name: str, environment: Mapping[str, str], sender: Connection) -> None:
    end_with_parent()
    sender.send(run_task(job, name, environment))


def _death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its process left with code {exit_code} and no word"
    memory = "; the kernel does this when memory is short" if -exit_code == signal.SIGKILL else ""
    return f"its process was ended by {signal.Signals(-exit_code).name}{memory}"
