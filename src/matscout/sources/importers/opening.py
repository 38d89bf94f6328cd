"""Opening files as streams, plain or gzip."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

GZIP_MAGIC = b"\x1f\x8b"


def is_gzip(path: Path) -> bool:
    """Whether the content, whatever the name, is gzip."""
    with path.open("rb") as stream:
        return stream.read(2) == GZIP_MAGIC


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, decompressed on the fly."""
    with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as stream:
        yield stream  # type: ignore[misc]


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """The same as text; newlines are left as they are, as the csv module asks."""
    with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        yield text


def head_of(path: Path, n_bytes: int = 65536) -> bytes:
    """The first decompressed bytes; fewer where the file is short or cut off."""
    try:
        with open_bytes(path) as stream:
            return stream.read1(n_bytes) if hasattr(stream, "read1") else stream.read(n_bytes)  # type: ignore[attr-defined]
    except EOFError:
        return b""


def name_of(path: Path) -> str:
    """File name in lower case without the compression's ending."""
    return path.name.lower().removesuffix(".gz")
