"""Our own records: JSONL or parquet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from matscout import columns
from matscout.errors import InputError
from matscout.sources.importers.opening import name_of, open_bytes
from matscout.sources.importers.raw import BadRow, RawRow
from matscout.sources.record import RowError
from matscout.sources.record_file import parse_crystal, parse_line

BATCH_ROWS = 1000


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Rows of either kind of file."""
    entries = _parquet(path) if name_of(path).endswith(".parquet") else _lines(path)
    for number, row in enumerate(entries):
        if isinstance(row, RowError):
            yield BadRow(path.name, number, "", row.reason, row.detail)
        else:
            material_id = row.get(columns.MATERIAL_ID)
            default_id = f"{path.stem}-{number}" if material_id is None else str(material_id)
            yield RawRow(path.name, number, row, parse_crystal, row, default_id)


def _lines(path: Path) -> Iterator[dict[str, Any] | RowError]:
    with open_bytes(path) as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                yield parse_line(line)
            except RowError as error:
                yield error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(BATCH_ROWS):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is no whole parquet file ({error}); copy it again") from error
