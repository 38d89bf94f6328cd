"""What a worker process is, and a few long tasks, each known by its name: how one runs, and what is told of its end."""

import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from matscout.engine.floating_point import use_one_thread
from matscout.engine.settings import INSIDE_A_WORKER
from matscout.errors import MatscoutError

DONE = ""  # in place of an error


@dataclass(frozen=True)
class Job:
    """What every task of one call shares.

    Attributes:
        function: called with the task's name; picklable.
        directory: to work in; on another machine, the same folder of a shared file system.
        logs: folder; what the task `a` prints goes to `a.log` there.
        imports: modules that tasks need, to be loaded once where workers can share what is loaded.
    """

    function: Callable[[str], None]
    directory: Path
    logs: Path
    imports: tuple[str, ...] = ()

    def log_of(self, name: str) -> Path:
        """Where the output of the task `name` goes."""
        return self.logs / f"{name}.log"


class Engine(Protocol):
    """Runs tasks, each in a process of its own, so that one that dies takes no other with it."""

    def run(self, job: Job, names: list[str]) -> Iterator[Mapping[str, str]]:
        """Start all tasks, as many at once as there is room, and yield every now and then which ended.

        Yields:
            by name of a task that ended since the last time: its error, or `DONE`.
        """
        ...


def run_task(job: Job, name: str, environment: Mapping[str, str]) -> str:
    """Run one task in this process, which must be its own, and return its error or `DONE`."""
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
        return f"{type(error).__name__}: {error}; the traceback stands in {job.log_of(name)}"
    return DONE


def enter_worker() -> None:
    """Make this process a worker of one core: it computes on one thread, and hands no work on."""
    os.environ.update(INSIDE_A_WORKER)
    use_one_thread()


def end_with_parent() -> None:
    """Have this process, started by `multiprocessing`, end when the one that started it is killed.

    Else it would go on by itself, and hold the locks that the next run needs.
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
