"""A member that `matscout train` trained before its stage runs, kept until the stage puts it in its place.

It lies beside its checkpoints, under the fingerprint of parameters, code and inputs, with a checksum. The stage then
imports neither torch nor MLflow.
"""

import logging
import shutil
from pathlib import Path

from matscout.files import atomic_path, sha256_of, write_bytes
from matscout.params import Params
from matscout.training.runs.checkpoints import checkpoint_directory, open_checkpoints
from matscout.training.runs.training_hashes import provenance_of, training_hashes

logger = logging.getLogger(__name__)

FOLDER, DIGEST = "member", "member.sha256"
CARD = "member.json"  # in each member's folder, as `models.member` writes it


def keep_member(directory: Path) -> None:
    """Seal the member that was written to `directory/member`; `directory` is that of its checkpoints."""
    write_bytes(directory / DIGEST, sha256_of(directory / FOLDER).encode())


def is_kept(name: str, fingerprint: str) -> bool:
    """Whether the member waits for its stage, whole."""
    return _is_whole(checkpoint_directory(name, fingerprint))


def take_member(name: str, *, params: Params, graphs: Path, split: Path, materials: Path, destination: Path) -> bool:
    """Put the member that was trained beforehand in its place, or say that there is none.

    Arguments as of `train_member`. A folder that does not fit its checksum is removed, and training goes on from the
    last checkpoint.
    """
    if name not in params.members:
        return False
    hashes = training_hashes(graphs=graphs, split=split, materials=materials)
    fingerprint = provenance_of(name, params, hashes).fingerprint
    if not (checkpoint_directory(name, fingerprint) / DIGEST).exists():
        return False
    with open_checkpoints(name, fingerprint) as checkpoints:
        if not _is_whole(checkpoints.directory):
            logger.warning("%s does not fit its SHA-256; training goes on", checkpoints.directory / FOLDER)
            (checkpoints.directory / DIGEST).unlink(missing_ok=True)
            return False
        with atomic_path(destination, mark=CARD) as folder:
            shutil.copytree(checkpoints.directory / FOLDER, folder)
        checkpoints.delete()
    return True


def _is_whole(directory: Path) -> bool:
    try:
        return (directory / DIGEST).read_text() == sha256_of(directory / FOLDER)
    except FileNotFoundError:
        return False
