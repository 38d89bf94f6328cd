"""Files as streams, plain or gzipped, checked to be complete; and `RawRow`, which every reader yields."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.errors import InputError

GZIP_MAGIC: Final = b"\x1f\x8b"
CHUNK: Final = 1 << 20  # bytes
MOST_EXPANSION: Final = 200  # largest expansion; rows of crystals compress to a tenth, only repetitions to a hundredth
FREE_EXPANSION: Final = 64 << 20  # bytes up to which any expansion is allowed


def is_gzip(path: Path) -> bool:
    """Whether the content, whatever the name, is gzip."""
    with path.open("rb") as stream:
        return stream.read(2) == GZIP_MAGIC


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, decompressed on the fly, after its checksum has been held against all of it.

    Raises:
        InputError: it is damaged or cut off, or expands too much.
    """
    if is_gzip(path):
        _prove(path, *_identity(path))
        with gzip.open(path, "rb") as stream:
            yield stream  # type: ignore[misc]
    else:
        with path.open("rb") as stream:
            yield stream


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """The same as text; newlines are left as they are, as the csv module asks."""
    encoding = _encoding(path, *_identity(path))
    with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
        yield text


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole content, decompressed; one byte more than `limit` where it is longer."""
    with open_bytes(path) as stream:
        return stream.read(limit + 1)


def head_of(path: Path, n_bytes: int = 65536) -> bytes:
    """The first decompressed bytes; fewer where the file is short."""
    with open_bytes(path) as stream:
        return stream.read(n_bytes)


def name_of(path: Path) -> str:
    """File name in lower case without the compression's ending."""
    return path.name.lower().removesuffix(".gz")


def stem_of(path: Path) -> str:
    """File name without its endings, `.gz` and the one before."""
    name = path.name[: len(name_of(path))]
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name


def shown(name: str | Path) -> str:
    """A file's name as text that can be printed and stored, whatever bytes the disk has in it."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=1024)
def _prove(path: Path, _changed: int, size: int) -> None:
    """Decompress to the end once, because gzip has its checksum there and a decompression bomb is noticed in time."""
    limit = max(FREE_EXPANSION, MOST_EXPANSION * size)
    n_bytes = 0
    try:
        with gzip.open(path, "rb") as stream:
            while chunk := stream.read(CHUNK):
                n_bytes += len(chunk)
                if n_bytes > limit:
                    rule = f"expands to more than {limit / 1e6:.0f} MB, {MOST_EXPANSION} times its size"
                    raise InputError(f"{shown(path)} {rule}; decompress it yourself if it is meant")
    except (EOFError, OSError, zlib.error) as error:
        detail = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{shown(path)} is damaged or cut off ({detail}); no row of it was used, copy it again"
        ) from error


@lru_cache(maxsize=1024)
def _encoding(path: Path, _changed: int, _size: int) -> str:
    """UTF-8 if all of it is, else Latin-1; UTF-16 where a mark says so."""
    with open_bytes(path) as stream:
        start = stream.read(2)
        if start in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return "utf-16"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(start)
            while chunk := stream.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


@dataclass(frozen=True)
class RawRow:
    """One material of a file.

    Attributes:
        file: the file's name, as written to the quarantine.
        number: the row's number in it, from 0.
        fields: columns or keys of the row as the file names and writes them.
        parse_cell: turns `cell` into a crystal, or raises RowError.
        cell: CIF text, a pymatgen dict, an ASE Atoms, ...
        default_id: the identifier where the file states none.
    """

    file: str
    number: int
    fields: Mapping[str, Any]
    parse_cell: Callable[[Any], Crystal]
    cell: Any
    default_id: str


Reader = Callable[[Path], Iterator[RawRow | Rejection]]
