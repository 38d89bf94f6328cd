"""Files that are whole or absent: atomic writes, stable bytes, content hashes."""

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matscout.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHUNK_BYTES = 1 << 20
SHARD_ROWS = (
    10_000  # of a row group of tables that are worked on part by part: so many crystals are in memory at a time
)
PARTIAL = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<process>\d+)\.partial")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
REPOSITORIES = (".git", ".dvc")  # a folder that holds one of these is nobody's output

_SWEPT: set[Path] = set()  # folders in which this process has looked for what killed ones left


@contextmanager
def atomic_path(
    path: Path, *, mark: str | tuple[str, ...] | None = None, final_name: Callable[[Path], str] | None = None
) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that replaces it, fsynced, if the block succeeds.

    A block that raises leaves `path` as it was and removes the temporary file or folder. What killed
    processes left half-written beside it is removed too.

    Args:
        path: file to write; with `mark` a folder, replaced as a whole.
        mark: name of a file, or names of which one stands in every such folder; one without is somebody else's.
        final_name: from the written file to the name that it gets in the place of `path`'s.

    Raises:
        InputError: a folder stands where a file shall go, or one that may not be replaced (`check_replaceable`).
    """
    path = Path(path)
    if mark is not None:
        check_replaceable(path, mark)
    elif path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = path.parent / f".{path.name}.{_host()}.{os.getpid()}.partial"
    remove(temporary)
    try:
        yield temporary
        _fsync_tree(temporary)
        if mark is not None:
            check_replaceable(path, mark)  # again: the block may have taken hours
            remove(path)
        temporary.replace(path if final_name is None else path.with_name(final_name(temporary)))
        _fsync(path.parent)
    finally:
        remove(temporary)


def check_replaceable(folder: Path, mark: str | tuple[str, ...]) -> None:
    """Refuse a folder that holds other things than an earlier output of ours.

    Raises:
        InputError: it is a file, the working directory or a parent of it, a repository, or holds files but not `mark`.
    """
    folder = Path(folder)
    remedy = "give a folder that is absent or empty"
    if folder.is_symlink() or folder.exists():
        here, place = Path.cwd().resolve(), folder.resolve()
        if not folder.is_dir():
            raise InputError(f"{folder} is a file, and a folder shall stand there; {remedy}")
        if place == here or place in here.parents:
            raise InputError(f"{folder} is the working directory or a parent of it, which is never replaced; {remedy}")
        if any((folder / name).exists() for name in REPOSITORIES):
            raise InputError(f"{folder} is a repository, which is never replaced; {remedy}")
        marks = (mark,) if isinstance(mark, str) else mark
        if any(folder.iterdir()) and not any((folder / name).exists() for name in marks):
            raise InputError(
                f"{folder} holds files but no {' or '.join(marks)}, so matscout did not write it; {remedy}"
            )


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Mapping[str, Any] | list[Any]) -> None:
    """Write sorted, indented JSON atomically; NaN and infinities are refused (they are not JSON)."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_parquet(path: Path, table: "pd.DataFrame | pa.Table", schema: "pa.Schema | None" = None) -> None:
    """Write a table atomically as byte-stable parquet (zstd, no pandas metadata, no clock)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
    table = table.replace_schema_metadata(None)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table atomically as CSV that a spreadsheet shows and never runs.

    Text that begins as a formula does (`=`, `+`, `-`, `@`) comes behind an apostrophe.
    """
    import pandas as pd

    safe = table.copy(deep=False)
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]) and not pd.api.types.is_bool_dtype(safe[name]):
            safe[name] = [
                f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
                for value in safe[name]
            ]
    with atomic_path(path) as temporary:
        safe.to_csv(temporary, index=False)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, or of a folder's sorted relative names and contents, as hex."""
    path = Path(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
        return digest.hexdigest()
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(content: Any) -> str:
    """SHA-256 of the canonical JSON of `content`, as hex."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it; one that is absent already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _host() -> str:
    return platform.node().partition(".")[0] or "host"


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine that are no more left half-written in `folder`; once a process."""
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    for left in list(folder.iterdir()):
        found = PARTIAL.fullmatch(left.name)
        if found and found["host"] == _host() and not _is_alive(int(found["process"])):
            remove(left)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_tree(path: Path) -> None:
    if path.is_dir():
        for child in path.rglob("*"):
            _fsync(child)
    _fsync(path)
