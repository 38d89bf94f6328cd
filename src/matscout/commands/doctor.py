"""Check installation, settings, disk and network (`matscout doctor`), and restore DVC's own files (`matscout mend`).

DVC writes `dvc.lock` in place after each stage, and `.dvc/tmp/rwlock` before and after.
If it is killed at that moment, it leaves a file that no DVC command can read. Nothing else is lost: outputs and the
run-cache are in DVC's cache.
"""

import json
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil

from matscout import layout
from matscout.commands.forecast import Forecast, forecast, measure_speed, rows_of_databases
from matscout.engine import n_workers
from matscout.engine.process_setup import Switch
from matscout.errors import InputError, MatscoutError
from matscout.files import write_bytes
from matscout.params import Params, load_params
from matscout.resume.parts import CHECKPOINTS, locked

PACKAGES = ("torch", "torch-geometric", "pymatgen", "dvc", "mlflow", "numba", "mp-api")
EXPECTED_OUTS = (
    layout.MATERIALS,
    layout.GRAPHS / "store.json",
    layout.CALIBRATION,
    layout.CANDIDATES,
    layout.RANKED,
    layout.REPORT,
)
REACH_TIMEOUT_S = 5.0
MARGIN = 1.5  # of the forecast of the disk


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    topic: str
    status: Literal["ok", "note", "problem"]
    text: str


def predicted() -> Forecast | None:
    """What the pipeline takes here with the present parameters; None if they are wrong or the sample is absent."""
    try:
        params = load_params()
        speed = measure_speed(params, n_workers())
    except MatscoutError:
        return None  # `examine` says why
    return None if speed is None else forecast(params, rows_of_databases(params), speed)


def examine(*, online: bool, told: Forecast | None = None) -> Iterator[Finding]:
    """All findings, cheapest first.

    Args:
        online: also try the databases' endpoints.
        told: the forecast, to compare with what is free.

    Yields:
        One finding for each thing that was looked at.
    """
    yield from _software()
    yield from _machine()
    try:
        params = load_params()
    except MatscoutError as error:
        yield Finding("params.yaml", "problem", str(error))
        return
    yield Finding("params.yaml", "ok", f"valid; goal {params.screening.goal}, members {', '.join(params.ensembled)}")
    yield _disk(told)
    yield _lock_file()
    yield from _databases(params, online=online)
    yield from _outputs()


def _software() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "problem", "not installed; run: make setup")
    git = shutil.which("git")
    if git is None:
        yield Finding("git", "problem", "not found; DVC needs it")
        return
    yield Finding("git", "ok", _output_of(git, "--version").removeprefix("git version "))
    if not _output_of(git, "config", "user.email"):
        yield Finding("git identity", "note", "not set; dvc exp run needs it: git config user.email you@example.org")


def _machine() -> Iterator[Finding]:
    import torch

    memory = psutil.virtual_memory()
    yield Finding("cores", "ok", f"{n_workers()} to use, engine {Switch.read().engine}")
    yield Finding("memory", "ok", f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("gpu", "ok" if devices else "note", ", ".join(devices) or "none; everything runs on the CPU")


def _disk(told: Forecast | None) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if told is None:
        return Finding("disk", "ok", f"{free:.1f} GB free here")
    text = f"{free:.1f} GB free here; the whole pipeline with these parameters needs about {told.disk_gb:.1f} GB"
    if free >= told.disk_gb * MARGIN:
        return Finding("disk", "ok", text)
    return Finding("disk", "problem", f"{text}; free disk space, or lower databases.*.query.limit")


def _lock_file() -> Finding:
    damaged = damaged_files(Path.cwd())
    if damaged:
        return Finding("dvc.lock", "problem", f"{' and '.join(damaged)} half-written; run: matscout mend")
    if Path("dvc.lock").is_file():
        return Finding("dvc.lock", "ok", "not cut off")
    return Finding("dvc.lock", "note", "not made yet; run: make repro")


def _databases(params: Params, *, online: bool) -> Iterator[Finding]:
    for name, database in params.databases.items():
        address = database.optimade_endpoint if database.origin == "optimade" else database.endpoint
        if database.origin in {"sample", "file"} or (database.origin == "bulk" and not address):
            there = Path(database.path).exists()
            text = f"origin {database.origin}: {database.path}"
            yield Finding(name, "ok" if there else "problem", text if there else f"{text} does not exist")
        else:
            yield Finding(name, "ok", f"origin {database.origin}: {address}")
        if online and address and address.startswith("http"):
            yield _reachable(name, address)
    key_set = bool(os.environ.get("MP_API_KEY"))
    needed = "materials_project" in params.databases and params.databases["materials_project"].origin == "api"
    text = "set" if key_set else "not set; only the origin api of materials_project needs it"
    yield Finding("MP_API_KEY", "problem" if needed and not key_set else "ok" if key_set else "note", text)


def _reachable(name: str, endpoint: str) -> Finding:
    import requests

    host = urlsplit(endpoint).netloc
    try:
        answer = requests.get(endpoint, timeout=REACH_TIMEOUT_S)
    except requests.RequestException as error:
        return Finding(name, "note", f"{host} is not reachable from here ({type(error).__name__})")
    return Finding(name, "ok", f"{host} answers (HTTP {answer.status_code})")


def _outputs() -> Iterator[Finding]:
    missing = [str(path) for path in EXPECTED_OUTS if not path.exists()]
    if missing:
        yield Finding("results", "note", f"not made yet: {', '.join(missing)}; run: make repro (or dvc pull)")
    else:
        yield Finding("results", "ok", "complete; see: matscout results")


def _output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - fixed words


LOCK_FILE = "dvc.lock"
RUNNING_FILE = ".dvc/tmp/rwlock"
DATABASE = "mlflow.db"
GUARDS = (".dvc/tmp/lock", ".dvc/tmp/rwlock.lock", f"{CHECKPOINTS}/mlflow.lock")  # held by whoever writes them
CONFLICT = b"<<<<<<< "  # Git's conflict mark: a merge that the user has to finish


def damaged_files(root: Path) -> list[str]:
    """Files of DVC and MLflow under `root` that they cannot read, except those with a Git conflict."""
    readable = {LOCK_FILE: _is_whole_lock_file, RUNNING_FILE: _is_json, DATABASE: _is_whole_database}
    return [name for name, is_whole in readable.items() if (root / name).is_file() and not is_whole(root / name)]


def mend(root: Path) -> Iterator[str]:
    """Restore or remove each damaged file under `root`, and yield one line for each.

    Raises:
        InputError: a DVC command is running, so a file may only be half-written.
    """
    if not damaged_files(root):
        return
    with ExitStack() as held:
        for name in GUARDS:
            held.enter_context(locked(root / name, taken=partial(_at_work, root / name)))
        for name in damaged_files(root):
            committed = _committed(root, name)
            if committed is None:
                (root / name).unlink()
                yield f"{name} was half-written: removed"
            else:
                write_bytes(root / name, committed)
                yield f"{name} was half-written: it is again as in the last commit"


def _at_work(guard: Path, holder: str) -> InputError:  # noqa: ARG001 -- DVC's locks do not always name their holder
    return InputError(f"{guard} is held by a dvc command at work here; wait for its end")


def _is_whole_lock_file(path: Path) -> bool:
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils import strictyaml

    try:
        strictyaml.load(str(path), schema=COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        return CONFLICT in path.read_bytes()
    return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _is_whole_database(path: Path) -> bool:
    """Whether MLflow finished making it: its last step adds the first experiment. Before that it holds no run."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                return True  # MLflow goes on from an empty file
            return "experiments" in tables and database.execute("SELECT count(*) FROM experiments").fetchone()[0] > 0
    except sqlite3.DatabaseError:
        return True  # in use, or nothing that is known here


def _committed(root: Path, name: str) -> bytes | None:
    """The file's content in the last commit; None if Git has none."""
    shown = subprocess.run(["git", "show", f"HEAD:./{name}"], cwd=root, capture_output=True, check=False)  # noqa: S603, S607
    return shown.stdout if shown.returncode == 0 else None
