"""Our own records: one JSON object a line, or a parquet table of `RECORD_SCHEMA`.

A line holds `material_id`, a crystal (`lattice` 9 numbers or 3x3 in Å, `species`, `frac_coords` 3 n numbers or
n x 3) and any of the labels in the units of `columns.UNITS`; other fields default to None, `functional` to PBE.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from matscout import columns
from matscout.crystal_checks import Rejection
from matscout.sources.fields import flag, identifier, number, numbers, parse_json, required, text, whole_number, year_of
from matscout.sources.formats.crystal_parser import parse_document
from matscout.sources.record import MALFORMED, Record, RowError, check_cell, rejection_of

FORMAT: Final = "records"
OWN_LABELS: Final = "own_labels"


def rows_of(page: Mapping[str, Any]) -> Iterator[Any]:
    """The records of one page, then what was rejected when the file was imported, as `Rejection`s."""
    yield from page["records"]
    for rejection in page["rejections"]:
        yield Rejection(**rejection)


def page_of(items: list[Record | Rejection]) -> dict[str, Any]:
    """The content of one page: the inverse of `rows_of`."""
    records = [_plain(item) for item in items if isinstance(item, Record)]
    return {"records": records, "rejections": [asdict(item) for item in items if isinstance(item, Rejection)]}


def _plain(record: Record) -> dict[str, Any]:
    row = record.to_row()
    plain = {key: [float(x) for x in row[key]] for key in (columns.LATTICE, columns.FRAC_COORDS)}
    labels = {label: _speakable(row[label]) for label in columns.LABELS}
    own = {OWN_LABELS: {label: _speakable(value) for label, value in record.own_labels.items()}}
    return row | plain | labels | (own if record.own_labels else {}) | {"file": record.file, "row": record.row}


def _speakable(value: float | None) -> float | str | None:
    """NaN and infinities as text: JSON cannot hold them, and such labels must reach curation, which rejects them."""
    return value if value is None or math.isfinite(value) else str(value)


def read_lines(
    path: Path, parse: Callable[[Mapping[str, Any]], Record], *, source: str, name: str
) -> Iterator[Record | Rejection]:
    """Read the lines of a JSONL file; empty ones are skipped.

    Args:
        path: the file.
        parse: one JSON object to a record; raises `RowError`.
        source: name of the database, for rejections.
        name: name of the file, for rejections.

    Yields:
        A record, or why the line is rejected.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            material_id = ""
            try:
                row = parse_line(line)
                material_id = f"{row.get(columns.MATERIAL_ID, '')!s:.80}"
                record = parse(row)
                check_cell(record.crystal)
                yield replace(record, file=name, row=number)
            except (RowError, *MALFORMED) as error:
                yield rejection_of(error, source=source, material_id=material_id, file=name, row=number)


def parse_line(line: str | bytes) -> Any:
    """The JSON object of one line.

    Raises:
        RowError: the line is not a JSON object, such as the last line of a file that was cut off.
    """
    row = parse_json(line)
    if not isinstance(row, dict):
        raise RowError("invalid_json", f"a line must hold one JSON object, not {type(row).__name__}")
    return row


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One record row, checked.

    Raises:
        RowError: no id, no usable crystal, or a label that is not a number.
    """
    return Record(
        material_id=identifier(required(row, columns.MATERIAL_ID)),
        source=source,
        functional=text(row, columns.FUNCTIONAL) or "PBE",
        is_hubbard=flag(row, columns.IS_HUBBARD),
        pseudopotentials=text(row, columns.PSEUDOPOTENTIALS),
        energy_corrections=text(row, columns.ENERGY_CORRECTIONS),
        synthetic=bool(flag(row, columns.SYNTHETIC)),
        crystal=parse_document(row),
        **{label: number(row, label) for label in columns.LABELS},  # type: ignore[arg-type]
        year=year_of(row, columns.YEAR),
        is_experimental=flag(row, columns.IS_EXPERIMENTAL),
        band_gap_functional=text(row, columns.BAND_GAP_FUNCTIONAL),
        ytterbium_potential=text(row, columns.YTTERBIUM),
        own_labels=numbers(row.get(OWN_LABELS) or {}),
        file=str(row.get("file") or ""),
        row=whole_number(row, "row") or 0,
    )
