"""Checkpoints of a training. A kill at any moment leaves the last one intact; the last two are kept.

They are in `.checkpoints/<member>/<fingerprint>/`. The fingerprint hashes parameters, code and inputs, so that a
changed training starts over and an unchanged one resumes. A member that `matscout train` has trained before its
stage runs is kept beside them until the stage moves it to its folder; the stage then imports neither torch nor MLflow.
"""

import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from matscout.errors import StoreError, TrainingError
from matscout.files import atomic_path
from matscout.resume.parts import CHECKPOINTS, Parts, locked, root
from matscout.training.training import Training, TrainingInputs

logger = logging.getLogger(__name__)

KIND = "ckpt"
N_KEPT = 2


class CheckpointStore:
    """The checkpoints of one training, held by one process; made by `open_checkpoints`.

    Args:
        directory: folder of this training alone.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._parts = Parts(directory)

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch`, then drop all but the last two."""
        self._parts.save_bytes(f"epoch-{epoch:06d}", KIND, encode(state))
        for old in epoch_files(self.directory)[:-N_KEPT]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The latest undamaged state, or None. Damaged ones are removed, with a warning."""
        for file in reversed(epoch_files(self.directory)):
            if self._parts.file(file.name.partition(".")[0], KIND) is None:
                continue
            try:
                return decode(file.read_bytes(), file)
            except StoreError as error:
                logger.warning("%s; falling back to the checkpoint before it", error)
                file.unlink()
        return None

    def delete(self) -> None:
        """Remove the folder, once the weights of the finished training are written."""
        shutil.rmtree(self.directory)
        _lock_file(self.directory).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: another variant of this member is being trained
            self.directory.parent.rmdir()


@contextmanager
def open_checkpoints(member: str, fingerprint: str) -> Iterator[CheckpointStore]:
    """Hold the checkpoints of one training for this process alone.

    A killed `dvc` can leave its trainer running; the lock keeps a second one from writing between the first one's
    epochs.

    Raises:
        TrainingError: another process trains this member with these parameters, code and inputs.
    """
    directory = checkpoint_directory(member, fingerprint)

    def taken(holder: str) -> TrainingError:
        return TrainingError(
            f"member {member!r} is already being trained by process {holder} ({_lock_file(directory)} is locked). Wait "
            f"for it, or end it (`kill {holder}`): a stopped `dvc` may have left it behind"
        )

    with locked(_lock_file(directory), taken):
        directory.mkdir(exist_ok=True)
        for partial in directory.glob(".*.partial"):
            if partial.is_dir():  # a member that was being written
                shutil.rmtree(partial)
            else:
                partial.unlink()
        yield CheckpointStore(directory)


def epoch_files(directory: Path) -> list[Path]:
    """The checkpoints in a folder, in the order of their epochs."""
    return sorted(directory.glob(f"epoch-*.{KIND}"))


def epochs_saved(member: str, fingerprint: str) -> int:
    """How many epochs of this training have checkpoints, by their names alone; for progress displays."""
    names = (file.name.partition(".")[0] for file in epoch_files(checkpoint_directory(member, fingerprint)))
    return max((int(name.removeprefix("epoch-")) for name in names), default=0)


def encode(state: dict[str, Any]) -> bytes:
    """The state as torch writes it."""
    import torch  # heavy, and not needed to look at a folder

    stream = io.BytesIO()  # torch.save to a file raises no OSError where the disk is full
    torch.save(state, stream)
    return stream.getvalue()


def decode(content: bytes, file: Path) -> dict[str, Any]:
    """Read what `encode` wrote, onto the CPU.

    Args:
        content: of the file.
        file: for the message.

    Returns:
        The checkpoint.

    Raises:
        StoreError: torch cannot read it, or the file would run code.
    """
    import torch

    try:
        # onto the CPU: a graphics card may have written it, and this machine may have none
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError) as error:
        raise StoreError(
            f"checkpoint {file} is whole but cannot be read by torch {torch.__version__}: {error}"
        ) from error


def checkpoint_directory(member: str, fingerprint: str) -> Path:
    """Folder of one training."""
    return root() / CHECKPOINTS / member / fingerprint


def _lock_file(directory: Path) -> Path:
    """Beside the folder, which is removed when the training is done."""
    return directory.with_name(f"{directory.name}.lock")


MEMBER_PART, MEMBER_KIND = "member", "folder"
CARD = "member.json"  # in each member's folder, as `models.member` writes it


def keep_member(directory: Path) -> None:
    """Seal the member that was written to `directory/member`; `directory` is that of its checkpoints."""
    with Parts(directory).writing(MEMBER_PART, MEMBER_KIND) as path:
        (directory / MEMBER_PART).replace(path)


def is_kept(name: str, fingerprint: str) -> bool:
    """Whether a complete member is kept for its stage."""
    return Parts(checkpoint_directory(name, fingerprint)).file(MEMBER_PART, MEMBER_KIND) is not None


def take_member(training: Training, inputs: TrainingInputs, destination: Path) -> bool:
    """Move a member that was trained beforehand to its folder.

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
    if not Parts(checkpoint_directory(training.name, fingerprint)).names(MEMBER_PART, MEMBER_KIND):
        return False
    with open_checkpoints(training.name, fingerprint) as checkpoints:
        kept = Parts(checkpoints.directory).file(MEMBER_PART, MEMBER_KIND)
        if kept is None:
            return False
        with atomic_path(destination, mark=CARD) as folder:
            shutil.copytree(kept, folder)
        checkpoints.delete()
    return True
