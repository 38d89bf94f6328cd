"""Read a lab's own file as records: columns mapped, units converted, unusable rows rejected.

Units are factors to ours (`columns.UNITS`; CODATA 2018).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.errors import ParameterError
from matscout.params import FileImport
from matscout.sources.fields import flag, identifier, number, numbers, text, year_of
from matscout.sources.files.detect_format import READERS, detect, until_cut_off
from matscout.sources.files.file_rows import RawRow
from matscout.sources.formats.crystal_parser import check_bulk
from matscout.sources.record import MALFORMED, Record, RowError, check_cell, rejection_of

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
