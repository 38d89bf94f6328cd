"""Run long, named tasks in worker processes that report when they end; on this machine, each on its own GPU."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from matscout.engine.process_setup import INSIDE_A_WORKER, use_one_thread
from matscout.errors import MatscoutError

DONE = ""  # reported instead of an error


@dataclass(frozen=True)
class Job:
    """The settings that all tasks of one call share.

    Attributes:
        function: called with the task's name; picklable.
        directory: directory to work in; on another machine, the same folder of a shared file system.
        logs: folder; the output of the task `a` goes to `a.log` in it.
        imports: modules that tasks need, to be loaded once where workers can share what is loaded.
    """

    function: Callable[[str], None]
    directory: Path
    logs: Path
    imports: tuple[str, ...] = ()

    def log_of(self, name: str) -> Path:
        """The file for the output of the task `name`."""
        return self.logs / f"{name}.log"


class Engine(Protocol):
    """Runs tasks, each in a process of its own, so that a crash ends one task only."""

    def run(self, job: Job, names: list[str]) -> Generator[Mapping[str, str], None, None]:
        """Run all tasks, as many at once as there is room, and yield from time to time which have ended.

        Closing it stops the tasks that still run.

        Yields:
            by name of a task that ended since the last time: its error, or `DONE`.
        """
        ...


def run_task(job: Job, name: str, environment: Mapping[str, str]) -> str:
    """Run one task in this process, which must not do anything else afterwards.

    It changes the environment, the working directory and the destination of output.

    Args:
        job: what the task shares with others.
        name: name of the task.
        environment: variables to set.

    Returns:
        The task's error as text, or `DONE`.
    """
    os.environ.update(environment)
    use_one_thread()
    os.chdir(job.directory)
    _print_to(job.log_of(name))
    try:
        job.function(name)
    except MatscoutError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 -- a defect: its traceback goes to the log, its name to the user
        traceback.print_exc()
        return f"{type(error).__name__}: {error}; the traceback is in {job.log_of(name)}"
    return DONE


def enter_worker() -> None:
    """Make this process a worker of one core: it computes on one thread, and starts no workers of its own."""
    os.environ.update(INSIDE_A_WORKER)
    use_one_thread()


def end_with_parent() -> None:
    """End this process, started by `multiprocessing`, if its parent process is killed.

    Otherwise it would keep running, and hold the locks that the next run needs.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _print_to(log: Path) -> None:
    """Append what this process prints, also from compiled code, to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


POLL_S = 0.5


@dataclass(frozen=True)
class LocalEngine:
    """Runs tasks in processes of their own.

    They are forked from a server without threads that has loaded the imports of the tasks, which take seconds.

    Attributes:
        environments: one per worker: the variables that its tasks get, such as `CUDA_VISIBLE_DEVICES`.
    """

    environments: Sequence[Mapping[str, str]]

    def run(self, job: Job, names: list[str]) -> Generator[Mapping[str, str], None, None]:
        """See `Engine.run`. Tasks that still run when the caller stops, or is killed, are stopped."""
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
        """The error that an ended process reported, or what its exit code means."""
        self.process.join()
        try:
            return self.answer.recv()
        except EOFError:
            return _death(self.process.exitcode or 0)


def _start(job: Job, name: str, environment: Mapping[str, str]) -> _Worker:
    """A process that may start processes itself, as a shared training does; a daemon may not."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(job.imports))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_body, args=(job, name, {**os.environ, **environment}, sender), name=name)
    process.start()
    sender.close()
    return _Worker(name, environment, process, receiver)


def _body(job: Job, name: str, environment: Mapping[str, str], sender: Connection) -> None:
    end_with_parent()
    sender.send(run_task(job, name, environment))


def _death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its process ended with code {exit_code} and no message"
    memory = "; the kernel does this when memory is short" if -exit_code == signal.SIGKILL else ""
    return f"its process was ended by {signal.Signals(-exit_code).name}{memory}"
