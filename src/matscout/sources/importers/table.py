"""CSV with a column of CIF text, as CDVAE's and MP-20's."""

import csv
from collections.abc import Iterator
from pathlib import Path

from matscout.errors import InputError
from matscout.sources.importers.cells import from_cif
from matscout.sources.importers.opening import open_text
from matscout.sources.importers.raw import BadRow, RawRow

CIF_COLUMN = "cif"
MAX_FIELD = 1 << 24  # characters: the CIF of a large cell is longer than csv's default of 131,072


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Rows of the file; every other column is a field.

    Raises:
        InputError: the header has no column `cif`.
    """
    csv.field_size_limit(MAX_FIELD)
    with open_text(path) as stream:
        reader = csv.DictReader(stream)
        if CIF_COLUMN not in (reader.fieldnames or ()):
            message = f"{path} has the columns {reader.fieldnames}; one must be {CIF_COLUMN!r} and hold CIF text"
            raise InputError(message)
        for number, row in enumerate(reader):
            if row.get(CIF_COLUMN) is None or None in row:
                detail = f"{len(row)} fields where the header names {len(reader.fieldnames or ())}"
                yield BadRow(path.name, number, row.get("material_id") or "", "count_mismatch", detail)
                continue
            yield RawRow(path.name, number, row, from_cif, row[CIF_COLUMN], f"{path.stem}-{number}")
