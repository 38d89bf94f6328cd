"""JSON documents: our records, pymatgen, JARVIS, OPTIMADE, MEGNet, pandas frames; one object per line, or one value.

Alexandria's downloads are among them: pymatgen entries in `{"entries": [...]}`, which may be compressed by bzip2.
`JsonStream` reads one value after another out of a file that is too large to hold. Our own records may also be a
parquet table of `RECORD_SCHEMA`.
"""

import bz2
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from matscout import columns
from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.sources.files.file_rows import RawRow, name_of, open_bytes, open_text, shown, stem_of
from matscout.sources.formats.crystal_parser import parse_document
from matscout.sources.formats.own_records import parse_line
from matscout.sources.record import RowError

CHUNK = 1 << 18  # characters; a value that is longer is read in chunks that grow with it
MAX_VALUE = 1 << 26  # characters; a broken file must not be read into memory in search of a bracket
WHITESPACE = " \t\r\n"
LITERAL_ENDS = '}]"'  # a value that ends in one of these is whole; a number may continue in the next chunk


class JsonStream:
    """A cursor over JSON text that reads a chunk when it needs one.

    Raises everywhere:
        EOFError: the text ends inside a value.
        ValueError: the text is no JSON.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._buffer = ""
        self._position = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is not white space, left in place; empty at the end."""
        while True:
            while self._position < len(self._buffer) and self._buffer[self._position] in WHITESPACE:
                self._position += 1
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._read_more():
                return ""

    def expect(self, characters: str) -> str:
        """Take the next character, which must be one of `characters`."""
        character = self.peek()
        if not character:
            raise EOFError("the JSON text ends in the middle")
        if character not in characters:
            raise ValueError(f"found {character!r} where one of {characters!r} is expected")
        self._position += 1
        return character

    def value(self) -> Any:
        """Decode the next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except RecursionError as error:
                raise ValueError("brackets nest too deeply to be read") from error
            except ValueError as error:
                if len(self._buffer) - self._position > MAX_VALUE:
                    raise ValueError(f"no whole JSON value within {MAX_VALUE} characters: {error}") from error
                if not self._read_more():
                    raise EOFError(f"the JSON text is cut off or broken: {error}") from error
                continue
            if end < len(self._buffer) or self._buffer[end - 1] in LITERAL_ENDS or not self._read_more():
                self._position = end
                return value

    def items(self) -> Iterator[Any]:
        """The elements of the array that comes next, one at a time."""
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        while True:
            yield self.value()
            if self.expect(",]") == "]":
                return

    def keys(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller must take each value before the next key."""
        self.expect("{")
        if self.peek() == "}":
            self.expect("}")
            return
        while True:
            key = self.value()
            self.expect(":")
            yield key
            if self.expect(",}") == "}":
                return

    def _read_more(self) -> bool:
        chunk = self._stream.read(max(CHUNK, len(self._buffer) - self._position))
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)


LINES: Final = (".jsonl", ".ndjson", ".jsonlines")
CELL_KEYS: Final = frozenset({"structure", "atoms", "attributes", "cif", "poscar", "final_structure"})
PARTS: Final = frozenset({"lattice", "sites", "lattice_mat", "coords", "elements", *columns.CRYSTAL})
BZIP2: Final = (".json.bz2", ".bz2")
ALEXANDRIA: Final = {"_ps_": "PBEsol", "pbesol": "PBEsol", "scan": "SCAN"}  # part of a file's name -> functional
ALEXANDRIA_LABELS: Final = {
    "mat_id": columns.MATERIAL_ID,
    "e_form": columns.FORMATION_ENERGY,
    "e_above_hull": columns.ENERGY_ABOVE_HULL,
    "band_gap_ind": columns.BAND_GAP,  # the fundamental gap; band_gap_dir is the direct one
}
OPTIMADE_ENTRIES: Final = frozenset({"info", "references", "links", "calculations", "files"})  # but structures


def read_documents(path: Path) -> Iterator[RawRow | Rejection]:
    """Every structure of the file, streamed; labels are the other keys of its document and of parts of it."""
    name, stem = shown(path.name), shown(stem_of(path))
    is_lines = name_of(path).endswith(LINES)
    for number, key, document in _lines(path) if is_lines else _values(path):
        if isinstance(document, RowError):
            yield Rejection(
                file=name, row=number, material_id=key or "", reason=document.reason, detail=document.detail
            )
        elif not isinstance(document, dict | str):
            detail = f"{document!r:.60} where an object with a structure is expected"
            yield Rejection(file=name, row=number, material_id=key or "", reason="structure_malformed", detail=detail)
        elif not _is_beside(document):
            labels = _labels_of(document) if isinstance(document, dict) else {}
            yield RawRow(
                name, number, labels, parse_document, document, f"{stem}-{number}" if key is None else key or stem
            )


def _is_beside(document: Any) -> bool:
    """A line of an OPTIMADE file that is not a structure by the standard."""
    if not isinstance(document, dict):
        return False
    is_other = isinstance(kind := document.get("type"), str) and kind in OPTIMADE_ENTRIES
    return "x-optimade" in document or (is_other and not CELL_KEYS & document.keys())


def _labels_of(document: Mapping[str, Any]) -> dict[str, Any]:
    parts = CELL_KEYS | PARTS
    plain = {key: value for key, value in document.items() if key not in parts and not isinstance(value, dict)}
    for key in ("data", "properties", "attributes"):
        if isinstance(part := document.get(key), dict):
            plain |= {name: value for name, value in part.items() if not isinstance(value, dict)}
    return plain


def _lines(path: Path) -> Iterator[tuple[int, str | None, Any]]:
    with open_bytes(path) as stream:
        for number, line in enumerate(stream):
            if line.strip():
                try:
                    yield number, None, parse_line(line)
                except RowError as error:
                    yield number, None, error


def _values(path: Path) -> Iterator[tuple[int, str | None, Any]]:
    """Number, name (None = unnamed, empty = the file's own) and document of each entry of one JSON value."""
    with open_text(path) as text:
        stream = JsonStream(text)
        if stream.peek() == "[":
            for number, document in enumerate(stream.items()):
                yield number, None, document
        elif stream.peek() == "{":
            yield from _of_object(stream)
        else:
            yield 0, None, stream.value()


def _of_object(stream: JsonStream) -> Iterator[tuple[int, str | None, Any]]:
    """One structure, structures by name, an OPTIMADE answer, or a frame by columns, as pandas writes it."""
    kept: dict[str, Any] = {}
    number, is_answer = 0, False
    for key in stream.keys():  # noqa: SIM118 - no dict
        if key == "data" and stream.peek() == "[" and not PARTS & kept.keys():
            is_answer = True
            for document in stream.items():
                yield number, None, document
                number += 1
            continue
        value = stream.value()
        if is_answer:
            continue  # links and meta of the answer
        if (key not in CELL_KEYS | PARTS | {"data"} and not kept and _is_document(value)) or number:
            yield number, key, value
            number += 1
        else:
            kept[key] = value
    if is_answer or not kept:
        return
    rows = list(_rows_of(kept))
    if rows:
        for place, (name, row) in enumerate(rows):
            yield place, None if name.isdigit() else name, row
    else:
        yield 0, "", kept


def _is_document(value: Any) -> bool:
    return isinstance(value, dict) and bool((CELL_KEYS | PARTS) & value.keys())


def _rows_of(frame: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a frame by columns, `{"structure": {"0": ..., "1": ...}, "gap": {"0": ...}}`; else none."""
    cells = next((frame[key] for key in CELL_KEYS if isinstance(frame.get(key), dict)), None)
    if cells is None or not all(isinstance(column, dict) for column in frame.values()) or _is_document(cells):
        return
    for name in cells:
        yield name, {key: column.get(name) for key, column in frame.items()}


# ------------------------------------------------------------------------------------------------ Alexandria
def read_alexandria(path: Path) -> Iterator[RawRow | Rejection]:
    """Every entry of one of Alexandria's files, or of all files of a folder.

    Files are named after the functional: `alexandria_000.json.bz2` (PBE), `alexandria_ps_000` (PBEsol),
    `alexandria_scan_000` (SCAN).
    """
    files = sorted(p for p in path.rglob("*.json*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        name, stem = shown(file.name), shown(stem_of(file))
        functional = next((found for part, found in ALEXANDRIA.items() if part in file.name.lower()), None)
        stated = {} if functional is None else {columns.FUNCTIONAL: functional}
        for number, entry in enumerate(_entries(file)):
            if not isinstance(entry, dict) or not isinstance(entry.get("structure"), dict):
                detail = f"{entry!r:.60} where an entry with a structure is expected"
                yield Rejection(file=name, row=number, reason="structure_malformed", detail=detail)
                continue
            data = entry["data"] if isinstance(entry.get("data"), dict) else {}
            fields = {ALEXANDRIA_LABELS.get(str(key), str(key)): value for key, value in data.items()}
            fields = {columns.MATERIAL_ID: entry.get("entry_id"), **fields, **stated}
            yield RawRow(name, number, fields, parse_document, entry["structure"], f"{stem}-{number}")


def _entries(path: Path) -> Iterator[Any]:
    with _opened(path) as text:
        stream = JsonStream(text)
        for key in stream.keys():  # noqa: SIM118 - no dict
            if key == "entries":
                yield from stream.items()
            else:
                stream.value()


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    if path.name.lower().endswith(BZIP2):
        with bz2.open(path, "rb") as stream, io.TextIOWrapper(stream, encoding="utf-8") as text:  # type: ignore[arg-type]
            yield text
    else:
        with open_text(path) as text:
            yield text


BATCH_ROWS = 1000


def read_records(path: Path) -> Iterator[RawRow | Rejection]:
    """Rows of either kind of file."""
    if not name_of(path).endswith(".parquet"):
        yield from read_documents(path)
        return
    name, stem = shown(path.name), shown(stem_of(path))
    for number, row in enumerate(_parquet(path)):
        yield RawRow(name, number, row, parse_document, row, f"{stem}-{number}")


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(BATCH_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{shown(path)} is not a complete parquet file ({error!s:.200}); copy it again") from error
