"""Candidates as CIF files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pymatgen.core import Composition
from pymatgen.io.cif import CifWriter

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.known_materials import formula_key
from matscout.errors import InputError

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SYMPREC = 0.01  # Å: candidates are idealised, so that the file states their full symmetry


def write_cifs(folder: Path, ranked: pd.DataFrame) -> list[Path]:
    """Write each row as `<rank>_<formula>_<candidate id>.cif`, with its space group; see `file_stem`."""
    folder.mkdir(parents=True)
    written = []
    for row in ranked.to_dict("records"):
        path = folder / f"{file_stem(row)}.cif"
        path.write_text(cif_text(Crystal.from_row(row)))
        written.append(path)
    return written


def cif_text(crystal: Crystal) -> str:
    """The crystal as CIF, with its space group."""
    return str(CifWriter(crystal.to_structure(), symprec=SYMPREC))


def file_stem(row: Mapping[str, Any]) -> str:
    """Rank, formula and id of a candidate as a name that needs no quoting: `0001_RbY2CuSe4_ms-2f59651b072a`.

    Args:
        row: row of a candidate, with its rank, species and id.

    Returns:
        The file name without its suffix.

    Raises:
        InputError: the id would leave the folder, or break the script that names it.
    """
    return f"{folder_name(row)}_{row[columns.CANDIDATE_ID]}"


def folder_name(row: Mapping[str, Any]) -> str:
    """Rank and formula as the name of a folder: `0001_RbY2CuSe4`.

    Args:
        row: row of a candidate, with its rank, species and id.

    Returns:
        The folder's name.

    Raises:
        InputError: as `file_stem`.
    """
    identity = str(row[columns.CANDIDATE_ID])
    if not SAFE_ID.fullmatch(identity):
        rule = "ids of candidates are letters, digits, - and _, such as ms-2f59651b072a"
        raise InputError(f"candidate {identity!r:.60} cannot name a file: {rule}")
    parts = Composition(formula_key(list(row[columns.SPECIES]))).formula.split()  # cations first, without brackets
    formula = "".join(part.removesuffix("1") if part[:-1].isalpha() else part for part in parts)
    return f"{row[columns.RANK]:04d}_{formula}"
