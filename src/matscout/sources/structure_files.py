"""Crystals that a user has as files: CIF, POSCAR, a folder of them, or a record JSONL."""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pymatgen.core import Structure

from matscout.errors import InputError
from matscout.sources.record import Record, Rejection, RowError
from matscout.sources.record_file import parse_row, read_lines
from matscout.sources.rows import make_crystal

USER_SOURCE = "user"
RECORD_SUFFIX = ".jsonl"
STRUCTURE_SUFFIXES = (".cif", ".vasp", ".poscar", ".json")


def read_structures(paths: Sequence[Path]) -> Iterator[Record | Rejection]:
    """Read every structure of the given files and folders, in their order; folders sorted by name.

    A structure's id is its file's name without the ending, or its path below the given folder. A
    file that holds no usable crystal becomes a `Rejection`; the others go on.

    Raises:
        InputError: a path does not exist, a folder holds no structure, or an ending is unknown.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; give a CIF, a POSCAR, a folder of them, or a record JSONL")
        if path.is_dir():
            yield from _read_folder(path)
        elif path.suffix == RECORD_SUFFIX:
            yield from _read_records(path)
        elif _is_structure(path):
            yield _read_file(path, path.stem if path.suffix else path.name)
        else:
            known = ", ".join((*STRUCTURE_SUFFIXES, "POSCAR*", "CONTCAR*", RECORD_SUFFIX))
            raise InputError(f"{path}: unknown kind of file; known are {known}")


def has_structures(folder: Path) -> bool:
    """Whether the folder, or one below it, holds a structure file."""
    return any(path.is_file() and _is_structure(path) for path in folder.rglob("*"))


def _read_folder(folder: Path) -> Iterator[Record | Rejection]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _is_structure(path))
    if not files:
        raise InputError(f"{folder} holds no structure; known are {', '.join(STRUCTURE_SUFFIXES)}, POSCAR*, CONTCAR*")
    for file in files:
        name = file.relative_to(folder)
        yield _read_file(file, name.with_suffix("").as_posix() if name.suffix else name.as_posix())


def _read_records(path: Path) -> Iterator[Record | Rejection]:
    return read_lines(path, partial(parse_row, source=USER_SOURCE), source=USER_SOURCE, name=str(path))


def _is_structure(path: Path) -> bool:
    return path.suffix.lower() in STRUCTURE_SUFFIXES or path.name.upper().startswith(("POSCAR", "CONTCAR"))


def _read_file(path: Path, material_id: str) -> Record | Rejection:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns of rounding that the checks below judge
            structure = Structure.from_str(path.read_text(), fmt=_format_of(path))
        return _record(structure, material_id)
    except RowError as error:
        return Rejection(USER_SOURCE, material_id, str(path), 0, error.reason, error.detail)
    except Exception as error:  # noqa: BLE001 - pymatgen's parsers raise nearly anything on a broken file
        detail = f"{type(error).__name__}: {str(error)[:200]}; export the structure again as CIF or POSCAR"
        return Rejection(USER_SOURCE, material_id, str(path), 0, "unreadable_structure", detail)


def _format_of(path: Path) -> Literal["cif", "json", "poscar"]:
    suffix = path.suffix.lower()
    return "cif" if suffix == ".cif" else "json" if suffix == ".json" else "poscar"


def _record(structure: Structure, material_id: str) -> Record:
    if not structure.is_ordered:
        raise RowError("disordered", f"{structure.formula} has partially occupied sites; give an ordered cell")
    crystal = make_crystal(structure.lattice.matrix, [site.specie.symbol for site in structure], structure.frac_coords)
    return Record(
        material_id=material_id,
        source=USER_SOURCE,
        functional="",
        is_hubbard=None,
        pseudopotentials=None,
        energy_corrections=None,
        synthetic=False,
        crystal=crystal,
        band_gap=None,
        formation_energy_per_atom=None,
        energy_above_hull=None,
        bulk_modulus=None,
        shear_modulus=None,
        year=None,
    )
