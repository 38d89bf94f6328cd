"""Candidates as CIF files."""

from pathlib import Path

import pandas as pd
from pymatgen.io.cif import CifWriter

from matscout import columns
from matscout.crystal import Crystal

SYMPREC = 0.01  # Å: candidates are idealised, so that their full symmetry stands in the file


def write_cifs(folder: Path, ranked: pd.DataFrame) -> list[Path]:
    """Write each row as `<rank>_<formula>_<candidate id>.cif`, with its space group."""
    folder.mkdir(parents=True)
    written = []
    for row in ranked.to_dict("records"):
        name = f"{row[columns.RANK]:04d}_{row[columns.FORMULA]}_{row[columns.CANDIDATE_ID]}.cif"
        path = folder / name
        path.write_text(str(CifWriter(Crystal.from_row(row).to_structure(), symprec=SYMPREC)))
        written.append(path)
    return written
