"""What a training came from: the hashes that decide whether two runs are the same run."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matscout
from matscout.files import sha256_of, sha256_of_json

# the same list as in dvc.yaml: what DVC calls a changed stage is a changed fingerprint
CODE = ("training", "models", "graphs", "columns.py", "crystal.py", "files.py")
UNDECIDING = ("training/runs/tracking.py",)  # told of a training, never asked


def repository() -> Path:
    """The repository that DVC runs in (the main one, also for `dvc exp run --temp`), else the working directory."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def experiment_name() -> str:
    """Name of the DVC experiment, empty outside of one."""
    return os.environ.get("DVC_EXP_NAME", "")


def git_commit() -> str:
    """The commit that is checked out, or `unknown` outside of a Git repository."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(repository()), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- fixed arguments
    return answer.stdout.strip() or "unknown"


def code_hash() -> str:
    """SHA-256 of the code that decides a member's weights."""
    package = Path(matscout.__file__).parent
    paths = [
        path for name in CODE for path in ((package / name).rglob("*.py") if "." not in name else [package / name])
    ]
    files = {path.relative_to(package).as_posix(): path for path in paths}
    return sha256_of_json({name: sha256_of(path) for name, path in files.items() if name not in UNDECIDING})


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def training_hashes(*, graphs: Path, split: Path, materials: Path) -> dict[str, str]:
    """SHA-256 by name: of the code and of each input; the same for all members."""
    return {
        "code": code_hash(),
        "graphs": sha256_of(graphs),
        "materials": sha256_of(materials),
        "split": sha256_of(split),
    }
