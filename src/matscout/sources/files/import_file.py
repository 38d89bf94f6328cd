"""Read a lab's own file as records: its format detected, columns mapped, units converted, unusable rows rejected.

The format follows from the name, then from the first bytes. Units are factors to ours (`columns.UNITS`; CODATA 2018).
"""

import csv
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.errors import InputError, ParameterError
from matscout.params import FileImport
from matscout.sources.fields import flag, identifier, number, numbers, text, year_of
from matscout.sources.files import json_documents, published_datasets, structure_files
from matscout.sources.files.file_rows import RawRow, Reader, head_of, name_of, shown
from matscout.sources.files.published_datasets import is_lemat, parquet_columns
from matscout.sources.formats.crystal_parser import check_bulk
from matscout.sources.formats.own_records import parse_line
from matscout.sources.record import MALFORMED, Record, RowError, check_cell, rejection_of

BY_ENDING: Final = MappingProxyType(
    {".parquet": "records", ".csv": "csv", ".tsv": "csv", ".xyz": "extxyz", ".extxyz": "extxyz"}
)
# A frame that pandas splits: columns and index, or rows that are lists.
SPLIT: Final = re.compile(rb'\{\s*("columns"|"index"|"data"\s*:\s*\[\s*\[)')

ENTRIES: Final = re.compile(rb'\{\s*"entries"\s*:\s*\[')


def detect(path: Path) -> str:
    """Name of the format of `path`, one of `READERS`.

    Raises:
        InputError: the path does not exist, holds nothing, or is of no known format.
    """
    if not path.exists():
        raise InputError(f"{shown(path)} does not exist; give a CIF, a POSCAR, a folder of them, or a file with rows")
    if path.is_dir():
        return "cgcnn" if published_datasets.is_labelled(path) else _kind_of_folder(path)
    if kind := kind_of(path):
        return kind
    known = ", ".join([*structure_files.ENDINGS, "POSCAR*", "CONTCAR*", *BY_ENDING, ".json", *json_documents.LINES])
    rule = f"known are {known} (each also .gz, parquet aside), and folders of them"
    raise InputError(f"{shown(path)}: unknown kind of file; {rule}")


def _kind_of_folder(path: Path) -> str:
    """A database in several files is one; else every file is read for itself."""
    files = structure_files.files_of(path)
    if files and all(name_of(file).endswith(".parquet") for file in files):
        return "lemat_bulk" if all(is_lemat(parquet_columns(file)) for file in files) else "folder"
    is_alexandria = files and all(file.name.lower().endswith(json_documents.BZIP2) for file in files)
    return "alexandria" if is_alexandria else "folder"


def kind_of(path: Path) -> str | None:
    """The format of a file that is there; None for an unknown one.

    Raises:
        InputError: it is empty or a damaged gzip file.
    """
    name = name_of(path)
    if structure_files.is_structure(path):
        return "structure"
    if name.endswith(json_documents.BZIP2):
        return "alexandria"
    kind = next((kind for ending, kind in BY_ENDING.items() if name.endswith(ending)), None)
    if kind is None and not name.endswith((".json", *json_documents.LINES)):
        return None
    if not path.stat().st_size:
        raise InputError(f"{shown(path)} is empty; give a file with rows")
    if name.endswith(".parquet") and is_lemat(parquet_columns(path)):
        return "lemat_bulk"
    return kind or _json_kind(head_of(path).lstrip(), is_lines=name.endswith(json_documents.LINES))


def _json_kind(head: bytes, *, is_lines: bool) -> str:
    if not is_lines and ENTRIES.match(head):
        return "alexandria"
    if not is_lines:
        return "matbench" if SPLIT.match(head) else "pymatgen"
    try:
        row = parse_line(head.split(b"\n", 1)[0])
    except RowError:
        return "records"  # a first line that is not an object is not decisive; the reader rejects it by its number
    if "x-optimade" in row or {"type", "attributes"} <= row.keys():
        return "optimade"
    if is_lemat(row):
        return "lemat_bulk"
    is_pymatgen = "structure" in row or "sites" in row or "@class" in row
    return "pymatgen" if is_pymatgen else "records"


def until_cut_off(rows: Iterator[RawRow | Rejection], path: Path) -> Iterator[RawRow | Rejection]:
    """Rows up to where the file is cut off, then one `Rejection` for the rest."""
    n_rows = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except EOFError as error:
            detail = f"{error}; the rows before it were kept, copy it again"
            yield Rejection(file=shown(path.name), row=n_rows, reason="truncated_file", detail=detail)
            return
        except (OSError, zlib.error, ValueError, csv.Error, RecursionError) as error:
            detail = (
                f"{type(error).__name__}: {error!s:.300}; the rows before it were kept, nothing after it could be read"
            )
            yield Rejection(file=shown(path.name), row=n_rows, reason="unreadable_file", detail=detail)
            return
        n_rows += 1
        yield row


def read_any(path: Path) -> Iterator[RawRow | Rejection]:
    """Rows of a file or folder of any known format."""
    return until_cut_off(READERS[detect(path)](path), path)


def _read_folder(folder: Path) -> Iterator[RawRow | Rejection]:
    def reader_of(path: Path) -> Reader | None:
        kind = kind_of(path)
        return None if kind is None else lambda path: until_cut_off(_told(READERS[kind], path), path)

    return structure_files.read_folder(folder, reader_of)


def _told(reader: Reader, path: Path) -> Iterator[RawRow | Rejection]:
    """An unusable file of a folder is one row of the quarantine file."""
    try:
        yield from reader(path)
    except InputError as error:
        yield Rejection(file=shown(path), row=0, reason="unreadable_file", detail=str(error))


READERS: Final = MappingProxyType(
    {
        "structure": structure_files.read_structure,
        "folder": _read_folder,
        "records": json_documents.read_records,
        "cgcnn": published_datasets.read_cgcnn_folder,
        "csv": structure_files.read_csv,
        "matbench": published_datasets.read_matbench,
        "extxyz": structure_files.read_extended_xyz,
        "optimade": json_documents.read_documents,
        "pymatgen": json_documents.read_documents,
        "lemat_bulk": published_datasets.read_lemat_bulk,
        "alexandria": json_documents.read_alexandria,
    }
)


# Names that the common files use; `columns` in params.yaml goes before these.
ALIASES: Final = MappingProxyType(
    {
        columns.MATERIAL_ID: ("material_id", "mp_id", "mpid", "jid", "auid", "id"),
        columns.BAND_GAP: (
            *("band_gap", "gap pbe", "gap", "bandgap", "_mp_band_gap", "_oqmd_band_gap", "_alexandria_band_gap"),
            "band_gap_indirect",
        ),
        columns.FORMATION_ENERGY: (
            *("formation_energy_per_atom", "e_form", "delta_e", "_oqmd_delta_e"),
            "_alexandria_formation_energy_per_atom",
        ),
        columns.ENERGY_ABOVE_HULL: (
            *("energy_above_hull", "e_above_hull", "_oqmd_stability", "_alexandria_hull_distance"),
        ),
        columns.BULK_MODULUS: ("bulk_modulus", "k_vrh", "K_VRH"),
        columns.SHEAR_MODULUS: ("shear_modulus", "g_vrh", "G_VRH"),
        columns.FUNCTIONAL: ("functional", "_alexandria_xc_functional"),
        columns.IS_HUBBARD: ("is_hubbard",),
        columns.PSEUDOPOTENTIALS: ("pseudopotentials",),
        columns.ENERGY_CORRECTIONS: ("energy_corrections",),
        columns.SYNTHETIC: ("synthetic",),
        columns.YEAR: ("year",),
        columns.IS_EXPERIMENTAL: ("is_experimental",),
        columns.BAND_GAP_FUNCTIONAL: ("band_gap_functional",),
    }
)


# Other names of functionals in files.
FUNCTIONALS: Final = MappingProxyType(
    {"pbe": "PBE", "pbesol": "PBEsol", "ps": "PBEsol", "scan": "SCAN", "r2scan": "r2SCAN", "hse06": "HSE06"}
)
THEORETICAL: Final = "theoretical"  # of the Materials Project: the material has not been made


def import_file(path: Path, options: FileImport, source: str) -> Iterator[Record | Rejection]:
    """Records of a file or folder, streamed; its format is detected unless `options` names one.

    Raises:
        ParameterError: `options` maps an unknown name or states an unknown unit.
        InputError: the file as a whole cannot be read.
    """
    check_options(options, f"databases.{source}.file")
    kind = detect(path) if options.format == "auto" else options.format
    for row in until_cut_off(READERS[kind](path), path):
        yield to_record(row, options, source)


def check_options(options: FileImport, path: str) -> None:
    """Names in `columns` and `units`; see `import_file`."""
    for name in options.columns:
        if name not in ALIASES:
            raise ParameterError(f"{path}.columns.{name}: unknown name; known are {', '.join(ALIASES)}")
    check_units(options.units, f"{path}.units")


def to_record(row: RawRow | Rejection, options: FileImport, source: str) -> Record | Rejection:
    """One row of any file as a record, or why not."""
    if isinstance(row, Rejection):
        return replace(row, source=source)
    material_id = row.default_id
    try:
        fields = {name: find_field(row.fields, name, options.columns) for name in ALIASES}
        if fields[columns.MATERIAL_ID] not in {None, ""}:
            material_id = identifier(fields[columns.MATERIAL_ID])
        return _record(row, fields, material_id, options, source)
    except (RowError, *MALFORMED) as error:
        return rejection_of(error, source=source, material_id=material_id, file=row.file, row=row.number)


def _record(row: RawRow, fields: dict[str, Any], material_id: str, options: FileImport, source: str) -> Record:
    crystal = row.parse_cell(row.cell)
    if unit := options.units.get(columns.LATTICE):
        crystal = Crystal(crystal.lattice * LENGTH[unit], crystal.species, crystal.frac_coords)
    check_bulk(check_cell(crystal))
    labels = {
        name: to_ours(number(fields, name), name, options.units.get(name), crystal.n_atoms) for name in columns.LABELS
    }
    functional = text(fields, columns.FUNCTIONAL) or options.functional
    gap_functional = text(fields, columns.BAND_GAP_FUNCTIONAL)
    if gap_functional not in {None, functional}:
        labels[columns.BAND_GAP] = None
    theoretical = flag(row.fields, THEORETICAL)
    made = flag(fields, columns.IS_EXPERIMENTAL)
    return Record(
        material_id=material_id,
        source=source,
        functional=FUNCTIONALS.get(functional.lower(), functional),
        is_hubbard=flag(fields, columns.IS_HUBBARD),
        pseudopotentials=text(fields, columns.PSEUDOPOTENTIALS),
        energy_corrections=text(fields, columns.ENERGY_CORRECTIONS),
        synthetic=bool(flag(fields, columns.SYNTHETIC)),
        crystal=crystal,
        year=year_of(fields, columns.YEAR),
        is_experimental=not theoretical if made is None and theoretical is not None else made,
        band_gap_functional=gap_functional,
        own_labels=numbers({ours: row.fields.get(theirs) for ours, theirs in options.labels.items()}),
        file=row.file,
        row=row.number,
        **labels,  # type: ignore[arg-type]
    )


def find_field(fields: Mapping[str, Any], name: str, mapping: Mapping[str, str]) -> Any:
    """The value of our `name`: under the mapped key, which must be there, else under a common one."""
    if (mapped := mapping.get(name)) is not None:
        if mapped not in fields:
            raise RowError("column_missing", f"{mapped!r}, mapped to {name}, is not among {list(fields)[:20]}")
        return fields[mapped]
    return next((fields[alias] for alias in ALIASES[name] if fields.get(alias) is not None), None)


HARTREE: Final = 27.211386245988  # eV
KJ_PER_MOL: Final = 0.010364269656262175  # eV
BOHR: Final = 0.529177210903  # Å

ENERGY: Final = MappingProxyType(
    {"eV": 1.0, "meV": 1e-3, "Ha": HARTREE, "Ry": HARTREE / 2, "kJ/mol": KJ_PER_MOL, "kcal/mol": 4.184 * KJ_PER_MOL}
)
PER_CELL: Final = "/cell"  # marks a total energy, to be divided by the number of atoms
ENERGY_PER_ATOM: Final = MappingProxyType(
    {f"{unit}{per}": factor for unit, factor in ENERGY.items() for per in ("/atom", PER_CELL)}
)
PRESSURE: Final = MappingProxyType({"GPa": 1.0, "MPa": 1e-3, "kbar": 0.1, "Pa": 1e-9, "eV/Å³": 160.21766208})
LENGTH: Final = MappingProxyType({"Å": 1.0, "nm": 10.0, "pm": 0.01, "bohr": BOHR})
KNOWN: Final = MappingProxyType(
    {
        columns.LATTICE: LENGTH,
        columns.BAND_GAP: ENERGY,
        columns.FORMATION_ENERGY: ENERGY_PER_ATOM,
        columns.ENERGY_ABOVE_HULL: ENERGY_PER_ATOM,
        columns.BULK_MODULUS: PRESSURE,
        columns.SHEAR_MODULUS: PRESSURE,
    }
)


def check_units(units: Mapping[str, str], path: str) -> None:
    """Check names and units of `params.databases.<name>.file.units`.

    Args:
        units: unit by quantity.
        path: path of the parameter, for the message.

    Raises:
        ParameterError: an unknown quantity or unit; the message lists the known ones.
    """
    for name, unit in units.items():
        if name not in KNOWN:
            raise ParameterError(f"{path}.{name}: unknown quantity; known are {', '.join(KNOWN)}")
        if unit not in KNOWN[name]:
            raise ParameterError(f"{path}.{name} = {unit!r}: unknown unit; known are {', '.join(KNOWN[name])}")


def to_ours(value: float | None, name: str, unit: str | None, n_atoms: int) -> float | None:
    """Convert a label to our unit.

    Args:
        value: in `unit`; None stays None.
        name: name of the quantity.
        unit: its unit; None = ours.
        n_atoms: number of atoms in the cell, for units per cell.

    Returns:
        The value in our unit.
    """
    if value is None or unit is None:
        return value
    scaled = value * KNOWN[name][unit]
    return scaled / n_atoms if unit.endswith(PER_CELL) else scaled
