"""What a training came from: the hashes that decide whether two runs are the same run."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matscout.files import sha256_of
from matscout.resume.fingerprint import code_hash
from matscout.resume.work_folders import root


def experiment_name() -> str:
    """Name of the DVC experiment, empty outside of one."""
    return os.environ.get("DVC_EXP_NAME", "")


def git_commit() -> str:
    """The commit that is checked out, or `unknown` outside of a Git repository."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(root()), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- fixed arguments
    return answer.stdout.strip() or "unknown"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def training_hashes(*, graphs: Path, split: Path, materials: Path) -> dict[str, str]:
    """Hash the code and the inputs of a training; the same for all members.

    Args:
        graphs: folder of the graph store.
        split: fold of each material id.
        materials: of the training set.

    Returns:
        SHA-256, as hex, by name.
    """
    return {
        "code": code_hash("matscout.training"),
        "graphs": sha256_of(graphs),
        "materials": sha256_of(materials),
        "split": sha256_of(split),
    }
