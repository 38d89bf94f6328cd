"""pymatgen JSON: a list, a mapping by id, one object, or one object a line, of structures or of documents with one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matscout.sources.importers.cells import from_pymatgen
from matscout.sources.importers.json_stream import JsonStream
from matscout.sources.importers.opening import name_of, open_bytes, open_text
from matscout.sources.importers.raw import BadRow, RawRow
from matscout.sources.record import RowError
from matscout.sources.record_file import parse_line

SINGLE_KEYS = frozenset({"@module", "@class", "lattice", "sites", "structure", "material_id"})


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Every structure of the file, streamed; labels are the other keys of its document and its `data`."""
    stem = name_of(path).split(".")[0]
    entries = _lines(path) if ".jsonl" in name_of(path) else _values(path)
    for number, (key, document) in enumerate(entries):
        default_id = key or f"{stem}-{number}"
        if isinstance(document, RowError):
            yield BadRow(path.name, number, default_id, document.reason, document.detail)
        elif not isinstance(document, dict):
            detail = f"{document!r:.60} where a pymatgen dict must stand"
            yield BadRow(path.name, number, default_id, "structure_malformed", detail)
        else:
            yield RawRow(path.name, number, _labels_of(document), from_pymatgen, document, default_id)


def _labels_of(document: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in document.items() if not isinstance(value, dict | list)}
    for key in ("data", "properties"):
        if isinstance(document.get(key), dict):
            plain |= document[key]
    return plain


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    with open_bytes(path) as stream:
        for line in stream:
            if line.strip():
                try:
                    yield "", parse_line(line)
                except RowError as error:
                    yield "", error


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    with open_text(path) as text:
        stream = JsonStream(text)
        if stream.peek() == "[":
            for document in stream.items():
                yield "", document
            return
        single: dict[str, Any] = {}
        for key in stream.keys():  # noqa: SIM118 - no dict
            value = stream.value()
            if single or key in SINGLE_KEYS:
                single[key] = value
            else:
                yield key, value
        if single:
            yield "", single
