"""A member that `matscout train` trained before its stage runs, kept until the stage puts it in its place.

It is a part beside its checkpoints, under the fingerprint of parameters, code and inputs. The stage then imports
neither torch nor MLflow.
"""

import shutil
from pathlib import Path

from matscout.files import atomic_path
from matscout.resume.parts import Parts
from matscout.training.runs.checkpoints import checkpoint_directory, open_checkpoints
from matscout.training.runs.training import Training, TrainingInputs

FOLDER, KIND = "member", "folder"
CARD = "member.json"  # in each member's folder, as `models.member` writes it


def keep_member(directory: Path) -> None:
    """Seal the member that was written to `directory/member`; `directory` is that of its checkpoints."""
    with Parts(directory).writing(FOLDER, KIND) as path:
        (directory / FOLDER).replace(path)


def is_kept(name: str, fingerprint: str) -> bool:
    """Whether the member waits for its stage, whole."""
    return Parts(checkpoint_directory(name, fingerprint)).file(FOLDER, KIND) is not None


def take_member(training: Training, inputs: TrainingInputs, destination: Path) -> bool:
    """Put the member that was trained beforehand in its place.

    A damaged one is removed, and training resumes from the last checkpoint.

    Args:
        training: what is trained, and how.
        inputs: files that are read.
        destination: folder of the member.

    Returns:
        Whether there was one.
    """
    if training.start is not None:  # members that begin with others are not trained beforehand
        return False
    fingerprint = training.provenance(inputs.hashes()).fingerprint
    if not Parts(checkpoint_directory(training.name, fingerprint)).names(FOLDER, KIND):
        return False
    with open_checkpoints(training.name, fingerprint) as checkpoints:
        kept = Parts(checkpoints.directory).file(FOLDER, KIND)
        if kept is None:
            return False
        with atomic_path(destination, mark=CARD) as folder:
            shutil.copytree(kept, folder)
        checkpoints.delete()
    return True
