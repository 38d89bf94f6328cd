"""A run of DVC, watched from outside: wall and processor time, memory and disk of every stage; and killed on demand.

Memory is the proportional set size, so that memory that processes share counts once. Disk counts each file of the
folder once, as blocks on the device.
"""

import io
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

POLL_S: Final = 1.0
DISK_EVERY: Final = 5  # polls
MARK: Final = "Running stage '"
BETWEEN: Final = "dvc"  # DVC itself, before, between and after stages
GB: Final = 1e9


@dataclass
class StageRun:
    """One run of one stage, whole or killed.

    Attributes:
        stage: its name.
        killed: whether it was killed.
        wall_s, processor_s: seconds; DVC's own hashing and copying after the stage are included.
        peak_memory_gb: largest sum over all processes of the run.
        peak_disk_gb: of the folder.
        load: load average of the machine at the end.
    """

    stage: str
    killed: bool = False
    wall_s: float = 0.0
    processor_s: float = 0.0
    peak_memory_gb: float = 0.0
    peak_disk_gb: float = 0.0
    load: float = 0.0


@dataclass
class Watched:
    """What one command did.

    Attributes:
        runs: the stages that ran, in order.
        status: exit status; negative after a kill.
        disk: (seconds since the start, GB) of the folder over time.
        over_budget: whether it was ended because the folder grew above its budget.
    """

    runs: list[StageRun] = field(default_factory=list)
    status: int = 0
    disk: list[tuple[float, float]] = field(default_factory=list)
    over_budget: bool = False


def disk_gb(folder: Path) -> float:
    """Blocks of all files below a folder, each counted once."""
    seen: set[tuple[int, int]] = set()
    blocks, folders = 0, [str(folder)]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue  # removed meanwhile
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                blocks += found.st_blocks
    return blocks * 512 / GB


def run_watched(
    command: list[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    kills: Mapping[str, float],
    budget_gb: float,
    log: Path,
    note: Callable[[Watched], None] = lambda _: None,
) -> Watched:
    """Run a `dvc repro`, measure its stages, and kill it and all its processes.

    Args:
        command: the command.
        folder: where it runs, and whose disk is measured.
        environment: its environment.
        kills: seconds after the start of a stage, by stage; the first that gets so far ends the run.
        budget_gb: disk that the folder may take; it is killed above.
        log: file to add its output to.
        note: called with what is known after each stage.

    Returns:
        What was measured.
    """
    watched, began = Watched(), time.monotonic()
    with log.open("a") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
        try:
            lines, reader = _lines_of(process, said)
            sample = _Sample(process.pid)
            run, started, used = StageRun(BETWEEN), time.monotonic(), 0.0
            for poll in range(sys.maxsize):
                if ended := process.poll() is not None:
                    reader.join()
                stage = _next_stage(lines, wait_s=0.0 if ended else POLL_S)
                if not ended:
                    sample.look()
                    run.peak_memory_gb = max(run.peak_memory_gb, sample.memory_gb)
                if poll % DISK_EVERY == 0 or stage or ended:
                    used_gb = disk_gb(folder)
                    watched.disk.append((round(time.monotonic() - began, 1), round(used_gb, 3)))
                    run.peak_disk_gb = max(run.peak_disk_gb, used_gb)
                    watched.over_budget = used_gb > budget_gb
                is_due = time.monotonic() - started > kills.get(run.stage, float("inf"))
                if (is_due or watched.over_budget) and not ended:
                    os.killpg(process.pid, signal.SIGKILL)
                    run.killed = True
                    process.wait()
                    continue
                if stage or ended:
                    run.wall_s, run.processor_s = time.monotonic() - started, sample.processor_s - used
                    run.load = os.getloadavg()[0]
                    watched.runs.append(run)
                    note(watched)
                    run, started, used = StageRun(stage or BETWEEN), time.monotonic(), sample.processor_s
                if ended and not stage:
                    break
        finally:  # of this process
            if process.poll() is None:  # this process is stopped, and so is what it watches
                os.killpg(process.pid, signal.SIGKILL)
    watched.status = process.returncode
    return watched


def _lines_of(process: subprocess.Popen[str], said: Any) -> "tuple[queue.Queue[str], threading.Thread]":
    """Lines as they come, and the thread that reads them, which ends with the last."""
    lines: queue.Queue[str] = queue.Queue()
    stream = process.stdout or io.StringIO()

    def read() -> None:
        with stream:
            for line in stream:
                said.write(line)
                said.flush()
                lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return lines, reader


def _next_stage(lines: "queue.Queue[str]", *, wait_s: float) -> str | None:
    """The stage that starts within the time, if one does."""
    until = time.monotonic() + wait_s
    while True:
        try:
            line = lines.get(timeout=max(0.0, until - time.monotonic())) if wait_s else lines.get_nowait()
        except queue.Empty:
            return None
        if line.startswith(MARK):
            return line.split("'")[1]


class _Sample:
    """Processor time and memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._times: dict[tuple[int, float], float] = {}
        self.memory_gb = 0.0

    @property
    def processor_s(self) -> float:
        """All processes seen so far together; what one used since it was last looked at is missing."""
        return sum(self._times.values())

    def look(self) -> None:
        """Take a sample."""
        self.memory_gb = 0.0
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return
        for process in processes:
            try:
                times = process.cpu_times()
                self._times[process.pid, process.create_time()] = times.user + times.system
                self.memory_gb += _memory_bytes(process.pid) / GB
            except (psutil.Error, OSError):
                continue


def _memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
