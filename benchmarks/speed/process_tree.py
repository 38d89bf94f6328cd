"""A process and its children, watched from outside: time, processor time and peak of memory."""

import ctypes
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

POLL_S = 0.2
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def run_watched(command: list[str], folder: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Run a command in a folder, its standard error in `folder`/log.

    Returns:
        wall seconds; processor seconds and the largest sum of resident memory of the process and all its descendants,
        looked at every `POLL_S`; memory that they share counts for each of them.
    """
    # what it leaves behind, such as the server that workers are forked from, becomes a child of this process
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started = time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stderr=log)
        watch = _Watch(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - started
        watch.stopped.set()
    if status:
        raise SystemExit(f"{command[1]} failed: {(folder / 'log').read_text()[-2000:]}")
    return {
        "seconds": round(took, 1),
        "processor_seconds": round(sum(each.ru_utime + each.ru_stime for each in (usage, *_left_behind())), 1),
        "peak_memory_mb": round(max(watch.peak_mb, usage.ru_maxrss / 1024)),
    }


def _left_behind() -> Iterator[resource.struct_rusage]:
    """What each process that outlived its parent has used, once it ended."""
    while True:
        try:
            yield os.wait3(0)[2]
        except ChildProcessError:
            return


class _Watch(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_mb, self.stopped = pid, 0.0, threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(POLL_S):
            self.peak_mb = max(self.peak_mb, _resident_mb(self.pid))


def _resident_mb(pid: int) -> float:
    """Of a process and its descendants; those that end meanwhile count as nothing."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return 0.0
    return pages * PAGE_MB + sum(_resident_mb(child) for child in children)
