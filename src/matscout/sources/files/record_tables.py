"""Our own records: JSONL, or a parquet table of `RECORD_SCHEMA`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from matscout.errors import InputError
from matscout.sources.files import json_documents
from matscout.sources.files.file_opening import name_of, shown, stem_of
from matscout.sources.files.raw_row import BadRow, RawRow
from matscout.sources.formats.crystal_parser import parse_document

BATCH_ROWS = 1000


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Rows of either kind of file."""
    if not name_of(path).endswith(".parquet"):
        yield from json_documents.read(path)
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
        raise InputError(f"{shown(path)} is no whole parquet file ({error!s:.200}); copy it again") from error
