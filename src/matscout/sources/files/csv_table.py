"""CSV with a column of structures as text: CIF as CDVAE's and MP-20's, or POSCAR or JSON."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.sources.files.file_opening import open_text, shown, stem_of
from matscout.sources.files.raw_row import RawRow
from matscout.sources.formats.crystal_parser import parse_text

CELL_COLUMNS: Final = ("cif", "structure", "poscar", "atoms")
SEPARATORS: Final = ",;\t"
MAX_FIELD: Final = 1 << 24  # characters: the CIF of a large cell is longer than csv's default of 131,072


def read(path: Path) -> Iterator[RawRow | Rejection]:
    """Rows of the file; every other column is a field. Columns are separated by comma, semicolon or tab.

    Raises:
        InputError: the header has no column of structures.
    """
    csv.field_size_limit(MAX_FIELD)
    name, stem = shown(path.name), shown(stem_of(path))
    with open_text(path) as stream:
        reader = csv.DictReader(stream, delimiter=_separator(stream))
        header = [str(column).strip() for column in reader.fieldnames or ()]
        reader.fieldnames = header
        cell = cell_column(header)
        if cell is None:
            rule = f"one must be {CELL_COLUMNS[0]!r} and hold CIF text (or {', '.join(CELL_COLUMNS[1:])})"
            raise InputError(f"{shown(path)} has the columns {header[:20]}; {rule}")
        for number, row in enumerate(reader):
            if row.get(cell) is None or None in row:
                detail = (
                    f"{sum(value is not None for value in row.values())} fields where the header names {len(header)}"
                )
                yield Rejection(
                    file=name,
                    row=number,
                    material_id=row.get("material_id") or "",
                    reason="count_mismatch",
                    detail=detail,
                )
                continue
            yield RawRow(name, number, row, parse_text, row[cell], f"{stem}-{number}")


def cell_column(header: list[str]) -> str | None:
    """The column of structures: of a usual name, else the first whose name holds one, such as `CIF (VESTA)`."""
    exact = next((column for column in CELL_COLUMNS if column in header), None)
    return exact or next((column for column in header if re.search("|".join(CELL_COLUMNS), column.lower())), None)


def _separator(stream: IO[str]) -> str:
    """The one that occurs most often in the header."""
    header = stream.readline()
    stream.seek(0)
    return max(SEPARATORS, key=header.count)
