"""The folders of unfinished work, and the lock that lets one process at a time work on it.

Both folders are outside DVC's outs: DVC removes a stage's outs before it runs, and `persist: true` would let stale work
become the result after a parameter changed. They may be deleted at any time; this only loses time.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

CHECKPOINTS: Final = ".checkpoints"  # parts of stages, epochs of trainings
DOWNLOADS: Final = ".downloads"  # pages of databases

_LOG = logging.getLogger(__name__)


def root() -> Path:
    """The repository that DVC runs in (the main one, also for `dvc exp run --temp`), or the working directory.

    The path is absolute, since workers of a cluster have another working directory.
    """
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


@contextmanager
def locked(path: Path, taken: Callable[[str], Exception] | None = None) -> Iterator[None]:
    """Hold a lock file for this process alone while the block runs.

    The kernel frees the lock when its holder ends, however it ends. The file then stays, with the holder's id.

    Args:
        path: path of the lock file, created where it is absent.
        taken: function from the id of a process that holds the lock to the error to raise; None = wait.

    Raises:
        Exception: the error that `taken` returns.
    """
    lock = FileLock(path)
    try:
        _acquire(lock, timeout=0)
    except Timeout as error:
        if taken is not None:
            raise taken(_holder(path)) from error
        _LOG.warning("%s is held by process %s, which does the same work; waiting for it", path, _holder(path))
        _acquire(lock, timeout=-1)
    try:
        path.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, timeout: float) -> None:
    while True:
        with suppress(FileNotFoundError):  # the last holder removed the folder before the file was made
            lock.acquire(timeout=timeout)
            return


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "unknown"
    except FileNotFoundError:
        return "unknown"
