"""What every reader yields: one row of a file, its cell not yet parsed, its labels as the file writes them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection


@dataclass(frozen=True)
class RawRow:
    """One material of a file.

    Attributes:
        file: the file's name, as written to the quarantine.
        number: the row's number in it, from 0.
        fields: columns or keys of the row as the file names and writes them.
        parse_cell: turns `cell` into a crystal, or raises RowError.
        cell: CIF text, a pymatgen dict, an ASE Atoms, ...
        default_id: the identifier where the file states none.
    """

    file: str
    number: int
    fields: Mapping[str, Any]
    parse_cell: Callable[[Any], Crystal]
    cell: Any
    default_id: str


Reader = Callable[[Path], Iterator[RawRow | Rejection]]
