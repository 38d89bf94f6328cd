"""Put back what a killed `dvc repro` left half-written of DVC's own files: the work behind `matscout mend`.

DVC writes `dvc.lock` in place after each stage, and `.dvc/tmp/rwlock` before and after.
A kill in that moment leaves a file that no DVC command reads. Nothing else is lost: outputs, and what was run to make
them, lie in DVC's cache.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from matscout.errors import InputError
from matscout.files import write_bytes
from matscout.resume.work_folders import locked

LOCK_FILE = "dvc.lock"
RUNNING_FILE = ".dvc/tmp/rwlock"
GUARDS = (".dvc/tmp/lock", ".dvc/tmp/rwlock.lock")  # held by DVC while it writes them
CONFLICT = b"<<<<<<< "  # Git's mark: a merge that its user has to end


def damaged_files(root: Path) -> list[str]:
    """DVC's own files under `root` that DVC cannot read, but for a conflict of Git's."""
    readable = {LOCK_FILE: _is_whole_lock_file, RUNNING_FILE: _is_json}
    return [name for name, is_whole in readable.items() if (root / name).is_file() and not is_whole(root / name)]


def mend(root: Path) -> Iterator[str]:
    """Put back or remove each damaged file under `root`, and say so, a line each.

    Raises:
        InputError: A DVC command is at work there, so that a file may be no more than half-written.
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


def _committed(root: Path, name: str) -> bytes | None:
    """The file's content in the last commit; None if Git has none."""
    shown = subprocess.run(["git", "show", f"HEAD:./{name}"], cwd=root, capture_output=True, check=False)  # noqa: S603, S607
    return shown.stdout if shown.returncode == 0 else None
