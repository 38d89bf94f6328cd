"""Candidates as CIF files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pymatgen.io.cif import CifWriter

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.known_materials import formula_key
from matscout.errors import InputError

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SYMPREC = 0.01  # Å: candidates are idealised, so that their full symmetry stands in the file


def write_cifs(folder: Path, ranked: pd.DataFrame) -> list[Path]:
    """Write each row as `<rank>_<formula>_<candidate id>.cif`, with its space group; see `file_stem`."""
    folder.mkdir(parents=True)
    written = []
    for row in ranked.to_dict("records"):
        path = folder / f"{file_stem(row)}.cif"
        path.write_text(str(CifWriter(Crystal.from_row(row).to_structure(), symprec=SYMPREC)))
        written.append(path)
    return written


def file_stem(row: Mapping[str, Any]) -> str:
    """Rank, formula and id of a candidate as a name that needs no quoting: `0001_Al2Be1Te4_ms-2f59651b072a`.

    Raises:
        InputError: the id would leave the folder, or break the script that names it.
    """
    identity = str(row[columns.CANDIDATE_ID])
    if not SAFE_ID.fullmatch(identity):
        rule = "ids of candidates are letters, digits, - and _, such as ms-2f59651b072a"
        raise InputError(f"candidate {identity!r:.60} cannot name a file: {rule}")
    formula = formula_key(list(row[columns.SPECIES])).replace(" ", "")
    return f"{row[columns.RANK]:04d}_{formula}_{identity}"
