"""CGCNN or ALIGNN folder: `id_prop.csv` or `id_prop.json`, and structure files beside it.

Xie & Grossman, PRL 120, 145301 (2018): rows `<id>,<label>,...` without header and `<id>.cif`. Choudhary & DeCost,
npj Comput. Mater. 7, 185 (2021): rows `<file>,<label>` with POSCARs, or a JSON list with `atoms`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from matscout.sources.files import json_documents
from matscout.sources.files.file_opening import open_text, shown
from matscout.sources.files.raw_row import BadRow, RawRow
from matscout.sources.files.structure_file import is_structure, plain_name, row_of

LABEL_FILE: Final = "id_prop.csv"
LABEL_DOCUMENTS: Final = "id_prop.json"
ENDINGS: Final = (".cif", ".vasp", ".poscar", ".cif.gz", ".vasp.gz", "")


def is_labelled(folder: Path) -> bool:
    """Whether a folder holds labels and structures in this form."""
    return any((folder / name).is_file() for name in (LABEL_FILE, LABEL_DOCUMENTS))


def read(folder: Path) -> Iterator[RawRow | BadRow]:
    """Rows in the order of the labels; the columns of `id_prop.csv` are named `0` (the id), `1`, `2`, ..."""
    if not (folder / LABEL_FILE).is_file():
        yield from json_documents.read(folder / LABEL_DOCUMENTS)
        return
    named = set()
    with open_text(folder / LABEL_FILE) as stream:
        for number, values in enumerate(csv.reader(stream)):
            if not values or not values[0].strip():
                continue
            name = values[0].strip()
            if (file := _file_of(folder, name)) is None:
                detail = f"{name!r:.80} is no file of the folder, with or without .cif or .vasp; add it"
                yield BadRow(LABEL_FILE, number, name, "structure_missing", detail)
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
            yield BadRow(shown(file.name), 0, plain_name(file), "label_missing", detail)


def _file_of(folder: Path, name: str) -> Path | None:
    """The structure file of an id; None where there is none in this folder."""
    if "\0" in name or len(name) > 200 or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return next((file for ending in ENDINGS if (file := folder / f"{name}{ending}").is_file()), None)
