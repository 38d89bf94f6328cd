"""Unfinished work on disk: its folders, the lock that lets one process at a time work on it, and its parts.

The folders are outside DVC's outs: DVC removes a stage's outs before it runs, and `persist: true` would let stale work
become the result after a parameter changed. They may be deleted at any time; this only loses time. A part is complete
or absent. Its name contains the checksum of its content, so that a damaged part is detected and made again.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from matscout.errors import StoreError
from matscout.files import atomic_path, remove, sha256_of
from matscout.resume.fingerprint import fingerprint

CHECKPOINTS: Final = ".checkpoints"  # parts of stages, epochs of trainings
DOWNLOADS: Final = ".downloads"  # pages of databases

_LOG = logging.getLogger(__name__)


def root() -> Path:
    """The repository that DVC runs in (the main one, also for `dvc exp run --temp`), or the working directory.

    The path is absolute, since workers of a cluster have another working directory.
    """
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


@contextmanager
def locked(path: Path, taken: Callable[[str], Exception] | None = None) -> Iterator[None]:
    """Hold a lock file for this process alone while the block runs.

    The kernel frees the lock when its holder ends, however it ends. The file then stays, with the holder's id.

    Args:
        path: path of the lock file, created where it is absent.
        taken: function from the id of a process that holds the lock to the error to raise; None = wait.

    Raises:
        Exception: the error that `taken` returns.
    """
    lock = FileLock(path)
    try:
        _acquire(lock, timeout=0)
    except Timeout as error:
        if taken is not None:
            raise taken(_holder(path)) from error
        _LOG.warning("%s is held by process %s, which does the same work; waiting for it", path, _holder(path))
        _acquire(lock, timeout=-1)
    try:
        path.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, timeout: float) -> None:
    while True:
        with suppress(FileNotFoundError):  # the last holder removed the folder before the file was made
            lock.acquire(timeout=timeout)
            return


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "unknown"
    except FileNotFoundError:
        return "unknown"


FOLDER_DIGITS = 16  # of a fingerprint
CHECKSUM_DIGITS = 16  # of SHA-256


class Parts:
    """Parts of one piece of work by name; a damaged one counts as absent.

    Args:
        folder: folder of this work alone; workers elsewhere may open it too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: set[Path] = set()

    @classmethod
    @contextmanager
    def kept(
        cls, work: str, *, settings: Any, inputs: Sequence[Path], code: Sequence[str], libraries: Sequence[str] = ()
    ) -> Iterator[Self]:
        """The parts of this run, kept while the block runs.

        Parts of a killed run are found again; a successful run leaves none. They are in
        `.checkpoints/<work>/<fingerprint>/`. Parts from other settings, inputs or code are removed.

        Args:
            work: name of the stage; one process at a time works on its parts, others wait.
            settings: the parameters, as JSON values.
            inputs: files and folders that are read.
            code: names of the modules that do the work.
            libraries: distributions whose version matters.

        Yields:
            The parts.
        """
        place = root() / CHECKPOINTS / work
        name = fingerprint(settings, inputs=inputs, code=code, libraries=libraries)[:FOLDER_DIGITS]
        with locked(place / "lock"):
            for stale in place.iterdir():
                if stale.is_dir() and stale.name != name:
                    shutil.rmtree(stale)
            (place / name).mkdir(exist_ok=True)
            yield cls(place / name)
            shutil.rmtree(place / name)

    def within(self, name: str) -> Self:
        """Parts of a step of this work, in a folder of their own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return type(self)(folder)

    def file(self, name: str, kind: str) -> Path | None:
        """The file or folder of that name and kind, if its content is unchanged.

        Damaged ones are removed, with a warning. This object hashes a part only once.
        """
        for path in sorted(self.folder.glob(f"{name}.*.{kind}")):
            if path in self._verified or path.name == f"{name}.{_checksum(path)}.{kind}":
                self._verified.add(path)
                return path
            _LOG.warning("%s was cut off or changed on disk (its checksum differs): it is made again", path)
            remove(path)
        return None

    def written(self, name: str, kind: str) -> Path:
        """The file of a part that this run has written.

        Args:
            name: name of the part.
            kind: the file's suffix.

        Returns:
            The file, with a checksum that fits.

        Raises:
            StoreError: it is gone or damaged.
        """
        if (path := self.file(name, kind)) is None:
            raise StoreError(f"{self.folder} was changed while it was in use; run the stage again")
        return path

    def names(self, pattern: str, kind: str) -> list[str]:
        """Names of the parts of a kind that match a pattern with `*`, in their order; damaged ones included."""
        endings = (CHECKSUM_DIGITS + len(kind) + 2) * -1
        return sorted({path.name[:endings] for path in self.folder.glob(f"{pattern}.*.{kind}")})

    def remove(self, pattern: str) -> None:
        """Remove the parts whose name matches a pattern with `*`."""
        for path in self.folder.glob(f"{pattern}.*.*"):
            remove(path)

    @contextmanager
    def writing(self, name: str, kind: str) -> Iterator[Path]:
        """A path for a file or a folder that replaces an earlier one of this name and kind."""
        earlier = set(self.folder.glob(f"{name}.*.{kind}"))
        written = self.folder / f"{name}.{kind}"
        with atomic_path(written, final_name=lambda _: f"{name}.{checksum}.{kind}") as path:
            yield path
            checksum = _checksum(path)
        for other in earlier - {self.folder / f"{name}.{checksum}.{kind}"}:
            remove(other)

    def table(self, name: str) -> pa.Table | None:
        """The table of that name, memory-mapped, so that it takes no memory until it is read."""
        if (path := self.file(name, "arrow")) is None:
            return None
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()

    def save_table(self, name: str, table: pa.Table) -> None:
        """Keep a table."""
        with (
            self.writing(name, "arrow") as path,
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)

    def array(self, name: str) -> NDArray[Any] | None:
        """The array of that name."""
        path = self.file(name, "npy")
        return None if path is None else np.load(path, allow_pickle=False)

    def save_array(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array."""
        content = BytesIO()  # numpy.save to a file does not report a full disk
        np.save(content, array, allow_pickle=False)
        self.save_bytes(name, "npy", content.getvalue())

    def save_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays together, as a part of the kind `npz`."""
        with self.writing(name, "npz") as path, path.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]

    def save_bytes(self, name: str, kind: str, content: bytes) -> None:
        """Keep a part of any kind.

        Args:
            name: name of the part.
            kind: the file's suffix.
            content: content of the file.
        """
        with self.writing(name, kind) as path:
            path.write_bytes(content)


def _checksum(path: Path) -> str:
    return sha256_of(path)[:CHECKSUM_DIGITS]
