"""What a training came from: the hashes that decide whether two runs are the same run."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matscout.errors import ParameterError
from matscout.files import sha256_of, sha256_of_json
from matscout.models import WEIGHTS_FILE
from matscout.params import Params
from matscout.resume.fingerprint import code_hash, fingerprint
from matscout.resume.work_folders import root


@dataclass(frozen=True)
class Provenance:
    """What a member's training came from.

    Attributes:
        member: name of the member.
        fingerprint: of all that decides its weights.
        parameters: what `params.yaml` says that bears on this member.
        pipeline_parameters: the whole of `params.yaml`.
        hashes: SHA-256 by name: of the code and of each input.
        title: of the runs it belongs with in the tracker, where that is no run of the pipeline.
    """

    member: str
    fingerprint: str
    parameters: Mapping[str, Any]
    pipeline_parameters: Mapping[str, Any]
    hashes: Mapping[str, str]
    title: str = ""


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


def pipeline_key(provenance: Provenance) -> str:
    """One key for all members of one pipeline run: its parameters, experiment, code and inputs.

    The commit is no part of it: someone may commit while the pipeline runs.
    """
    parts = [dict(provenance.pipeline_parameters), experiment_name(), dict(provenance.hashes)]
    return sha256_of_json(parts + [provenance.title] * bool(provenance.title))


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
        "code": code_hash("matscout.training"),
        "graphs": sha256_of(graphs),
        "materials": sha256_of(materials),
        "split": sha256_of(split),
    }


def provenance_of(
    name: str, params: Params, hashes: Mapping[str, str], *, start: Mapping[str, Any] | None = None
) -> Provenance:
    """The code, the inputs (`training_hashes`) and the parameters that decide the weights of the member `name`.

    `start` says what weights it begins with, if others than those of `training.start`.

    Raises:
        ParameterError: `training.start` holds no trained member.
    """
    tree = params.model_dump(mode="json")
    shared = ("targets", "model", "hypothetical", "compute")
    parameters = {"member": tree["members"][name], **{key: tree[key] for key in shared}}
    own = params.members[name].training.start
    if start is None and own is not None:
        start = {"weights_sha256": _weights_sha256(name, Path(own))}
    if start:
        parameters["start"] = start
    settings = {"member": name, "parameters": parameters, "hashes": dict(hashes)}
    key = fingerprint(settings, inputs=(), code=(), libraries=["torch"])  # inputs and code are in `hashes`
    return Provenance(name, key, parameters, tree, hashes)


def _weights_sha256(name: str, start: Path) -> str:
    try:
        return sha256_of(start / WEIGHTS_FILE)
    except OSError as error:
        raise ParameterError(
            f"members.{name}.training.start = {str(start)!r} holds no {WEIGHTS_FILE}; name the folder of a trained "
            "member, or null to train from nothing"
        ) from error
