"""Published data sets in their own layouts: LeMat-Bulk, Matbench, and the folders of CGCNN and ALIGNN.

- LeMat-Bulk: OPTIMADE columns in parquet or JSON lines, with total energies of several databases on one scale. It
  publishes no formation energies: they are relative to the lowest row of each element and functional in the same
  files, corrected energies (`energy_corrected`) where all of a row's references have them.
- Matbench: `json.gz`, a pandas frame, split, whose column `structure` holds pymatgen dicts (Dunn et al., 2020).
- CGCNN or ALIGNN folder: `id_prop.csv` or `id_prop.json`, and structure files beside it. Xie & Grossman, PRL 120,
  145301 (2018): rows `<id>,<label>,...` without header and `<id>.cif`. Choudhary & DeCost, npj Comput. Mater. 7, 185
  (2021): rows `<file>,<label>` with POSCARs, or a JSON list with `atoms`.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from matscout import columns
from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.sources.files import json_documents
from matscout.sources.files.file_rows import RawRow, name_of, open_bytes, open_text, shown, stem_of
from matscout.sources.files.json_documents import JsonStream
from matscout.sources.files.structure_files import is_structure, plain_name, row_of
from matscout.sources.formats.crystal_parser import parse_document
from matscout.sources.formats.own_records import parse_line
from matscout.sources.record import RowError

COLUMNS: Final = frozenset({"lattice_vectors", "cartesian_site_positions", "species_at_sites", "immutable_id"})
OWN: Final = frozenset({"functional", "cross_compatibility"})
ENERGIES: Final = {
    "energy_corrected": columns.MP2020,
    "energy": columns.UNCORRECTED,
}  # the first of these that exists is used
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


def read_lemat_bulk(path: Path) -> Iterator[RawRow | Rejection]:
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
        raise InputError(f"{shown(path)} is not a complete parquet file ({error!s:.200}); copy it again") from error


STRUCTURE = "structure"


def read_matbench(path: Path) -> Iterator[RawRow | Rejection]:
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
            detail = f"{values!r:.60} where {len(columns)} values are expected: {columns}"
            yield Rejection(file=name, row=number, material_id=default_id, reason="count_mismatch", detail=detail)
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


LABEL_FILE: Final = "id_prop.csv"
LABEL_DOCUMENTS: Final = "id_prop.json"
ENDINGS: Final = (".cif", ".vasp", ".poscar", ".cif.gz", ".vasp.gz", "")


def is_labelled(folder: Path) -> bool:
    """Whether a folder holds labels and structures in this form."""
    return any((folder / name).is_file() for name in (LABEL_FILE, LABEL_DOCUMENTS))


def read_cgcnn_folder(folder: Path) -> Iterator[RawRow | Rejection]:
    """Rows in the order of the labels; the columns of `id_prop.csv` are named `0` (the id), `1`, `2`, ..."""
    if not (folder / LABEL_FILE).is_file():
        yield from json_documents.read_documents(folder / LABEL_DOCUMENTS)
        return
    named = set()
    with open_text(folder / LABEL_FILE) as stream:
        for number, values in enumerate(csv.reader(stream)):
            if not values or not values[0].strip():
                continue
            name = values[0].strip()
            if (file := _file_of(folder, name)) is None:
                detail = f"{name!r:.80} is not a file of the folder, with or without .cif or .vasp; add it"
                yield Rejection(
                    file=LABEL_FILE, row=number, material_id=name, reason="structure_missing", detail=detail
                )
                continue
            named.add(file)
            row = row_of(file, shown(file.name), plain_name(file))
            if isinstance(row, RawRow):
                fields = {str(column): value for column, value in enumerate(values)}
                row = RawRow(row.file, number, fields, row.parse_cell, row.cell, row.default_id)
            yield row
    for file in sorted(folder.iterdir()):
        if file not in named and file.is_file() and is_structure(file):
            detail = f"{LABEL_FILE} has no row for it; add one"
            yield Rejection(
                file=shown(file.name), row=0, material_id=plain_name(file), reason="label_missing", detail=detail
            )


def _file_of(folder: Path, name: str) -> Path | None:
    """The structure file of an id; None if there is none in this folder."""
    if "\0" in name or len(name) > 200 or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return next((file for ending in ENDINGS if (file := folder / f"{name}{ending}").is_file()), None)
