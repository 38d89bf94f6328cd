"""Matbench `json.gz`: a pandas frame, split, whose column `structure` holds pymatgen dicts (Dunn et al., 2020)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matscout.errors import InputError
from matscout.sources.files.file_opening import open_text, shown, stem_of
from matscout.sources.files.json_stream import JsonStream
from matscout.sources.files.raw_row import BadRow, RawRow
from matscout.sources.formats.crystal_parser import parse_document

STRUCTURE = "structure"


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Rows of the frame, streamed; the index names them.

    Raises:
        InputError: the frame has no column `structure`.
    """
    columns, index = _names_of(path)
    if STRUCTURE not in columns:
        raise InputError(f"{shown(path)} has the columns {columns}; one must be {STRUCTURE!r} and hold pymatgen dicts")
    name, stem = shown(path.name), shown(stem_of(path))
    for number, values in enumerate(_data_of(path)):
        label = index[number] if number < len(index) else number
        default_id = label if isinstance(label, str) else f"{stem}-{label}"
        if not isinstance(values, list) or len(values) != len(columns):
            detail = f"{values!r:.60} where {len(columns)} values must stand: {columns}"
            yield BadRow(name, number, default_id, "count_mismatch", detail)
            continue
        fields = dict(zip(columns, values, strict=True))
        yield RawRow(name, number, fields, parse_document, fields.pop(STRUCTURE), default_id)


def _names_of(path: Path) -> tuple[list[str], list[Any]]:
    """Column and row names; the rows are skipped one by one if they stand first."""
    found: dict[str, list[Any]] = {}
    with open_text(path) as text:
        stream = JsonStream(text)
        for key in stream.keys():  # noqa: SIM118 - no dict
            if key in {"columns", "index"}:
                found[key] = list(stream.items())
            elif key == "data":
                for _ in stream.items():
                    pass
            else:
                stream.value()
            if len(found) == 2:
                break
    return found.get("columns", []), found.get("index", [])


def _data_of(path: Path) -> Iterator[Any]:
    with open_text(path) as text:
        stream = JsonStream(text)
        for key in stream.keys():  # noqa: SIM118 - no dict
            if key == "data":
                yield from stream.items()
            else:
                stream.value()
