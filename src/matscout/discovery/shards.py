"""Shards: parts of a long piece of work, kept on disk until the whole is done, so that a killed run goes on.

They lie outside DVC's outs, in `${DVC_ROOT:-.}/.checkpoints/<stage>/<fingerprint>/`; the fingerprint covers parameters,
code and inputs, so that a changed run starts clean. The folder may be deleted at any time; only time is lost. A part's
name holds the checksum of its content: what a disk cut off or changed is not used, and is made again.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import matscout
from matscout.files import atomic_path, sha256_of, sha256_of_json

SHARD_ROWS = 10_000  # crystals whose graphs and predictions are in memory at a time
FINGERPRINT_DIGITS = 16
CHECKSUM_DIGITS = 16  # of SHA-256

_LOG = logging.getLogger(__name__)


class Shards:
    """Parts of one piece of work by name, each whole or absent; a damaged one counts as absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: set[Path] = set()

    @classmethod
    @contextmanager
    def kept(cls, stage: str, *, settings: Any, inputs: Sequence[Path], rooms: Sequence[str]) -> Iterator[Self]:
        """The shards of this very run: those left by a killed one are there; a run that ends well leaves none.

        Args:
            stage: name of the stage; one process at a time works on its shards.
            settings: JSON of the parameters.
            inputs: files and folders that are read.
            rooms: folders and files of the package whose code decides the result.
        """
        root = Path(os.environ.get("DVC_ROOT", ".")) / ".checkpoints" / stage
        root.mkdir(parents=True, exist_ok=True)
        package = Path(matscout.__file__).parent
        content = [settings, [sha256_of(path) for path in inputs], [sha256_of(package / room) for room in rooms]]
        folder = root / sha256_of_json(content)[:FINGERPRINT_DIGITS]
        with (root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for stale in root.iterdir():
                if stale.is_dir() and stale != folder:
                    shutil.rmtree(stale)
            folder.mkdir(exist_ok=True)
            yield cls(folder)
            shutil.rmtree(folder)

    def table(self, name: str) -> pa.Table | None:
        """The table of that name, memory-mapped, so that it takes no memory until it is read."""
        if (path := self._whole(name, "arrow")) is None:
            return None
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()

    def save_table(self, name: str, table: pa.Table) -> None:
        """Keep a table."""
        with (
            self._kept(name, "arrow") as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)

    def array(self, name: str) -> NDArray[Any] | None:
        """The array of that name."""
        path = self._whole(name, "npy")
        return None if path is None else np.load(path, allow_pickle=False)

    def save_array(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array."""
        content = BytesIO()  # numpy writes to a file by itself, and does not say that a disk is full
        np.save(content, array, allow_pickle=False)
        with self._kept(name, "npy") as path:
            path.write_bytes(content.getbuffer())

    def _whole(self, name: str, kind: str) -> Path | None:
        """The file of that name if its content is what was written; damaged ones are removed, with a warning.

        What this process has verified once it does not hash again.
        """
        for path in sorted(self.folder.glob(f"{name}.*.{kind}")):
            if path in self._verified or _checksum(path) == path.suffixes[0].removeprefix("."):
                self._verified.add(path)
                return path
            _LOG.warning("%s was cut off or changed on disk (its checksum differs): it is made again", path)
            path.unlink()
        return None

    @contextmanager
    def _kept(self, name: str, kind: str) -> Iterator[Path]:
        """A path to write to; what was written there is kept under a name that holds its checksum."""
        with atomic_path(self.folder / f"{name}.{kind}.written") as path:
            yield path
        written = self.folder / f"{name}.{kind}.written"
        written.replace(self.folder / f"{name}.{_checksum(written)}.{kind}")


def _checksum(path: Path) -> str:
    return sha256_of(path)[:CHECKSUM_DIGITS]
