"""What is to be trained: a member, what it learns, how it is optimised, and the files that it learns from.

Nothing here loads torch, so that checking whether a member is trained already is fast. Hashes of all this
decide whether two runs are the same run.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from matscout.errors import ParameterError
from matscout.files import sha256_of
from matscout.models import WEIGHTS_FILE
from matscout.params import Compute, Member, Params, Recipe, Target
from matscout.resume.fingerprint import code_hash, fingerprint
from matscout.resume.parts import root

CONTINUED, FRESH = "continued", "fresh"


@dataclass(frozen=True)
class TrainingInputs:
    """Files that a training reads.

    Attributes:
        graphs: folder of the graph store.
        split: table of material_id and fold.
        materials: training set, or the curated table alone.
    """

    graphs: Path
    split: Path
    materials: Path

    def hashes(self) -> dict[str, str]:
        """SHA-256 by name: of the code and of each input; the same for all members."""
        return training_hashes(graphs=self.graphs, split=self.split, materials=self.materials)


@dataclass(frozen=True)
class Provenance:
    """What a member's training came from.

    Attributes:
        member: name of the member.
        fingerprint: of all that decides its weights.
        parameters: the part of `params.yaml` that affects this member.
        hashes: SHA-256 by name: of the code and of each input.
    """

    member: str
    fingerprint: str
    parameters: Mapping[str, Any]
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: of the member.
        member: its block of `params.yaml`.
        targets: what it learns, by name.
        recipe: how it is optimised.
        compute: device, threads, processes.
        per_epoch: hypothetical crystals that an epoch draws.
        reference: database on whose scale the labels are; a start's head for it can be continued.
        start: folder of a trained member to begin with, in place of that of the member's `training.start`.
        heads: `continued` or `fresh`, see `starting_weights.load_start`.
    """

    name: str
    member: Member
    targets: Mapping[str, Target]
    recipe: Recipe
    compute: Compute
    per_epoch: int = 0
    reference: str = ""
    start: Path | None = None
    heads: str = CONTINUED

    @classmethod
    def of(cls, name: str, member: Member, params: Params, *, targets: Mapping[str, Target] | None = None) -> Self:
        """The training of a member with the given parameters.

        Args:
            name: of the member.
            member: its parameters.
            params: recipe, compute and the rest that members share.
            targets: to learn; None = those of `params`.

        Returns:
            The training, from random weights.
        """
        return cls(
            name,
            member,
            params.targets if targets is None else targets,
            params.model,
            params.compute,
            per_epoch=params.hypothetical.per_epoch,
            reference=params.curation.offsets.reference,
        )

    @property
    def begins_with(self) -> Path | None:
        """Folder of the trained member whose weights it begins with, if any."""
        own = self.member.training.start
        return self.start or (None if own is None else Path(own))

    def provenance(self, hashes: Mapping[str, str], start: Mapping[str, Any] | None = None) -> Provenance:
        """What decides the weights.

        Args:
            hashes: see `TrainingInputs.hashes`.
            start: what is taken from the weights that it begins with; by default all of those of `training.start`.

        Raises:
            ParameterError: `training.start` holds no trained member.
        """
        parameters: dict[str, Any] = {
            "member": self.member.model_dump(mode="json"),
            "targets": {name: target.model_dump(mode="json") for name, target in self.targets.items()},
            "model": self.recipe.model_dump(mode="json"),
            "hypothetical": {"per_epoch": self.per_epoch},
            "compute": self.compute.model_dump(mode="json"),
        }
        own = self.member.training.start
        if start is None and own is not None:
            start = {"weights_sha256": _weights_sha256(self.name, Path(own))}
        if start:
            parameters["start"] = start
        settings = {"member": self.name, "parameters": parameters, "hashes": dict(hashes)}
        key = fingerprint(settings, inputs=(), code=(), libraries=["torch"])  # inputs and code are in `hashes`
        return Provenance(self.name, key, parameters, hashes)


def member_training(name: str, params: Params, start: Path | None = None) -> Training:
    """The training of a block of `members` or `finetuned`.

    Args:
        name: key of either section.
        params: all parameters.
        start: folder of a trained member to begin with; None = what the block says.

    Returns:
        The training.

    Raises:
        ParameterError: no such block.
    """
    if name in params.finetuned:
        block = params.finetuned[name]
        training = Training.of(name, block.member, params)
        return replace(training, start=start or Path(block.from_), heads=block.heads)
    if name not in params.members:
        raise ParameterError(f"member {name!r} is not in params.yaml; choose one of {sorted(params.ensembled)}")
    return replace(Training.of(name, params.members[name], params), start=start)


class TrackedRun(Protocol):
    """A member's run in a tracker."""

    @property
    def run_id(self) -> str:
        """Its id, as kept in checkpoints."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a step; a step that was recorded before stays as it is."""


class Tracker(Protocol):
    """Where a training's curves go. It may raise an error when a training starts, but must not stop it later."""

    def run(self, provenance: Provenance, run_id: str | None) -> AbstractContextManager[TrackedRun]:
        """The run of one member: that of `run_id`, which a checkpoint told, else the member's own.

        Raises:
            TrainingError: the tracker cannot be used.
        """
        ...


@dataclass(frozen=True)
class Untracked:
    """Tracks nothing; `history.parquet` holds the curves in any case."""

    run_id: str = ""

    def run(self, provenance: Provenance, run_id: str | None) -> AbstractContextManager[TrackedRun]:
        """See `Tracker`."""
        del provenance, run_id
        return nullcontext(self)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `TrackedRun`."""


def _weights_sha256(name: str, start: Path) -> str:
    try:
        return sha256_of(start / WEIGHTS_FILE)
    except OSError as error:
        raise ParameterError(
            f"members.{name}.training.start = {str(start)!r} holds no {WEIGHTS_FILE}; name the folder of a trained "
            "member, or null to train from nothing"
        ) from error


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
