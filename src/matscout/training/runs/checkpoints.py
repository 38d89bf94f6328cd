"""Checkpoints that survive a kill at any moment: atomic, fsynced, checksummed, locked, two kept.

They live outside DVC's outs, under `${DVC_ROOT:-.}/.checkpoints/<member>/<fingerprint>/`: DVC removes a
stage's outs before it runs, and `persist: true` would let a stale checkpoint become the result after a
parameter changed. The fingerprint hashes parameters, code and inputs, so that a changed run starts clean
and an unchanged one goes on. The folder may be deleted at any time; only the time spent is lost.
"""

import fcntl
import hashlib
import io
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from matscout.errors import StoreError, TrainingError
from matscout.files import write_bytes
from matscout.training.runs.training_hashes import repository

logger = logging.getLogger(__name__)

MAGIC = b"matscout-checkpoint-1\n"
DIGEST_BYTES = hashlib.sha256().digest_size
N_KEPT = 2


class CheckpointStore:
    """The checkpoints of one training, held by one process; made by `open_checkpoints`.

    Args:
        directory: folder of this training alone.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch`, then drop all but the last two."""
        write_bytes(self.directory / f"epoch-{epoch:06d}.ckpt", encode(state))
        for old in self._files()[:-N_KEPT]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The latest state that is whole, or None if there is none; says which ones are corrupt."""
        for file in reversed(self._files()):
            try:
                return decode(file.read_bytes(), file)
            except StoreError as error:
                logger.warning("%s; falling back to the checkpoint before it", error)
                file.unlink()
        return None

    def delete(self) -> None:
        """Remove the folder: the training is done and its weights are written."""
        shutil.rmtree(self.directory)
        with suppress(OSError):  # not empty: another variant of this member is in training
            self.directory.parent.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("epoch-*.ckpt"))


@contextmanager
def open_checkpoints(member: str, fingerprint: str) -> Iterator[CheckpointStore]:
    """Hold the checkpoints of one training for this process alone.

    A killed `dvc` can leave its trainer running; the lock (freed by the kernel when its holder ends,
    however it ends) keeps a second one from writing between the first one's epochs.

    Raises:
        TrainingError: another process trains this member with these parameters, code and inputs.
    """
    directory = checkpoint_directory(member, fingerprint)
    descriptor = _lock(directory, member)
    try:
        for partial in directory.glob(".*.partial"):
            if partial.is_dir():  # a member that was being written
                shutil.rmtree(partial)
            else:
                partial.unlink()
        yield CheckpointStore(directory)
    finally:
        os.close(descriptor)


def epochs_saved(member: str, fingerprint: str) -> int:
    """How many epochs of this training stand in checkpoints, by their names alone; for whoever watches it."""
    names = (file.stem for file in checkpoint_directory(member, fingerprint).glob("epoch-*.ckpt"))
    return max((int(name.removeprefix("epoch-")) for name in names), default=0)


def encode(state: dict[str, Any]) -> bytes:
    """The state behind a magic line and its SHA-256."""
    import torch  # heavy, and who only looks at a folder needs none of it

    stream = io.BytesIO()
    torch.save(state, stream)
    payload = stream.getvalue()
    return MAGIC + hashlib.sha256(payload).digest() + payload


def decode(content: bytes, file: Path) -> dict[str, Any]:
    """The inverse of `encode`; `file` is for the message.

    Raises:
        StoreError: the content is cut off, altered, or not a checkpoint of this format.
    """
    import torch

    start = len(MAGIC) + DIGEST_BYTES
    digest, payload = content[len(MAGIC) : start], content[start:]
    if not content.startswith(MAGIC) or hashlib.sha256(payload).digest() != digest:
        raise StoreError(f"checkpoint {file} ({len(content)} bytes) is corrupt: its content does not match its SHA-256")
    try:
        # onto the CPU: a graphics card may have written it, and this machine may have none
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError) as error:
        raise StoreError(
            f"checkpoint {file} is whole but cannot be read by torch {torch.__version__}: {error}"
        ) from error


def checkpoint_directory(member: str, fingerprint: str) -> Path:
    """Folder of one training."""
    return repository() / ".checkpoints" / member / fingerprint


def _lock(directory: Path, member: str) -> int:
    """Descriptor of the locked file `directory/lock`."""
    while True:
        file = directory / "lock"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # deleted between the two lines by its last holder, who is done
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode() or "unknown"
            os.close(descriptor)
            raise TrainingError(
                f"member {member!r} is already being trained by process {holder} ({file} is locked). Wait for it, "
                f"or end it (`kill {holder}`): a stopped `dvc` may have left it behind"
            ) from error
        if _is_same_file(descriptor, file):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        os.close(descriptor)  # its last holder finished and deleted the folder meanwhile


def _is_same_file(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
