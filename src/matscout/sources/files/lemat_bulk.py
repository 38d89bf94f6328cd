"""LeMat-Bulk: OPTIMADE columns in parquet or JSON lines, with total energies of several databases on one scale.

It publishes no formation energies: they are relative to the lowest row of each element and functional in the same
files, corrected energies (`energy_corrected`) where all of a row's references have them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from matscout import columns
from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.sources.files.file_opening import name_of, open_bytes, shown
from matscout.sources.files.raw_row import RawRow
from matscout.sources.formats.crystal_parser import parse_document
from matscout.sources.formats.own_records import parse_line
from matscout.sources.record import RowError

COLUMNS: Final = frozenset({"lattice_vectors", "cartesian_site_positions", "species_at_sites", "immutable_id"})
OWN: Final = frozenset({"functional", "cross_compatibility"})
ENERGIES: Final = {"energy_corrected": columns.MP2020, "energy": columns.UNCORRECTED}  # the first that is there counts
BATCH_ROWS: Final = 1000

References = Mapping[tuple[str, str, str], float]  # (energy's name, functional, element) -> eV/atom


def is_lemat(names: Any) -> bool:
    """Whether a table or row with these columns is of this format."""
    return set(names) >= COLUMNS | OWN


def parquet_columns(path: Path) -> list[str]:
    """The columns of a parquet file; none where it is not whole."""
    try:
        return pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return []


def read(path: Path) -> Iterator[RawRow | Rejection]:
    """Every row of the file, or of all parquet files of a folder."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    references = elemental_energies(row for file in files for _, row in _rows(file) if isinstance(row, dict))
    for file in files:
        name = shown(file.name if file == path else file.relative_to(path).as_posix())
        for number, row in _rows(file):
            if isinstance(row, Rejection):
                yield row
                continue
            cell = {**row, "species": _species(row.get("species"))}
            yield RawRow(name, number, _fields(row, references), parse_document, cell, f"{name}-{number}")


def elemental_energies(rows: Iterator[Mapping[str, Any]]) -> References:
    """The lowest energy per atom of each element, by name of the energy and functional."""
    lowest: dict[tuple[str, str, str], float] = {}
    for row in rows:
        symbols = row.get("species_at_sites")
        if not isinstance(symbols, list) or len(set(map(str, symbols))) != 1:
            continue
        for name in ENERGIES:
            energy = row.get(name)
            if isinstance(energy, int | float) and energy == energy:  # noqa: PLR0124 -- no NaN
                key = (name, str(row.get("functional")), str(symbols[0]))
                lowest[key] = min(lowest.get(key, energy / len(symbols)), energy / len(symbols))
    return lowest


def _fields(row: Mapping[str, Any], references: References) -> dict[str, Any]:
    """The row's own columns, and its formation energy where every element has a reference."""
    fields = {key: value for key, value in row.items() if not isinstance(value, dict)}
    fields[columns.MATERIAL_ID] = row.get("immutable_id")
    symbols, functional = row.get("species_at_sites"), str(row.get("functional"))
    for name, corrections in ENERGIES.items():
        energy = row.get(name)
        if not isinstance(energy, int | float) or not isinstance(symbols, list) or not symbols:
            continue
        own = [references.get((name, functional, str(symbol))) for symbol in symbols]
        if None not in own:
            formed = (energy - sum(own)) / len(symbols)  # type: ignore[arg-type]
            return {**fields, columns.FORMATION_ENERGY: formed, columns.ENERGY_CORRECTIONS: corrections}
    return fields


def _species(value: Any) -> Any:
    """OPTIMADE's species, which the tables hold as text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return None
    return value


def _parsed(line: bytes, number: int, name: str) -> dict[str, Any] | Rejection:
    try:
        return parse_line(line)
    except RowError as error:
        return Rejection(file=name, row=number, reason=error.reason, detail=error.detail)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    if not name_of(path).endswith(".parquet"):
        with open_bytes(path) as stream:
            for number, line in enumerate(stream):
                if line.strip():
                    yield number, _parsed(line, number, shown(path.name))
        return
    try:
        number = 0
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{shown(path)} is no whole parquet file ({error!s:.200}); copy it again") from error
