"""CGCNN folder (Xie & Grossman, PRL 120, 145301, 2018): `id_prop.csv` without header, `<id>.cif` beside it."""

import csv
from collections.abc import Iterator
from pathlib import Path

from matscout.sources.importers.cells import from_cif
from matscout.sources.importers.opening import open_text
from matscout.sources.importers.raw import BadRow, RawRow

LABEL_FILE = "id_prop.csv"


def read(folder: Path) -> Iterator[RawRow | BadRow]:
    """Rows in the order of `id_prop.csv`; its columns are named `0` (the id), `1`, `2`, ..."""
    named = set()
    with open_text(folder / LABEL_FILE) as stream:
        for number, values in enumerate(csv.reader(stream)):
            if not values:
                continue
            material_id = values[0].strip()
            named.add(material_id)
            cif = folder / f"{material_id}.cif"
            if not cif.is_file():
                detail = f"{cif.name} is not in the folder; every id needs its CIF"
                yield BadRow(LABEL_FILE, number, material_id, "structure_missing", detail)
                continue
            fields = {str(column): value for column, value in enumerate(values)}
            yield RawRow(cif.name, number, fields, from_cif, _text_of(cif), material_id)
    for cif in sorted(folder.glob("*.cif")):
        if cif.stem not in named:
            yield BadRow(cif.name, 0, cif.stem, "label_missing", f"{LABEL_FILE} has no row {cif.stem!r}; add it")


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
