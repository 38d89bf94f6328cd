"""OPTIMADE JSONL: one JSON object a line, a header first, then `info` and `structures` entries."""

from collections.abc import Iterator
from pathlib import Path

from matscout.sources.importers.cells import from_optimade
from matscout.sources.importers.opening import open_bytes
from matscout.sources.importers.raw import BadRow, RawRow
from matscout.sources.record import RowError
from matscout.sources.record_file import parse_line

STRUCTURES = "structures"


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """The entries of the type `structures`; labels are attributes such as `_mp_band_gap`."""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream):
            if not line.strip():
                continue
            try:
                entry = parse_line(line)
            except RowError as error:
                yield BadRow(path.name, number, "", error.reason, error.detail)
                continue
            if entry.get("type") != STRUCTURES:
                continue
            attributes = entry.get("attributes") or {}
            material_id = str(entry.get("id", f"{path.stem}-{number}"))
            yield RawRow(path.name, number, attributes, from_optimade, attributes, material_id)
