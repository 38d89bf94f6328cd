"""Shards: parts of a long piece of work, kept on disk until the whole is done, so that a killed run goes on.

They lie outside DVC's outs, in `${DVC_ROOT:-.}/.checkpoints/<stage>/<fingerprint>/`; the fingerprint covers parameters,
code and inputs, so that a changed run starts clean. The folder may be deleted at any time; only time is lost.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import matscout
from matscout.files import atomic_path, sha256_of, sha256_of_json

SHARD_ROWS = 10_000  # crystals whose graphs and predictions are in memory at a time
FINGERPRINT_DIGITS = 16


class Shards:
    """Parts of one piece of work by name, each whole or absent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        path = self.folder / f"{name}.arrow"
        if not path.exists():
            return None
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()

    def save_table(self, name: str, table: pa.Table) -> None:
        """Keep a table."""
        with (
            atomic_path(self.folder / f"{name}.arrow") as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)

    def array(self, name: str) -> NDArray[Any] | None:
        """The array of that name."""
        path = self.folder / f"{name}.npy"
        return np.load(path, allow_pickle=False) if path.exists() else None

    def save_array(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array."""
        with atomic_path(self.folder / f"{name}.npy") as path, path.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)
