"""Earlier comparisons, so that adding a database compares only what is new.

They are kept in `.checkpoints/curation/<fingerprint>/`; the fingerprint covers the tolerances, the code that compares
and the versions of the libraries that it calls. Results are the same with and without them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd
import pyarrow as pa

from matscout import columns
from matscout.crystal import Crystal
from matscout.curation.duplicates.reduced_cell import ReducedCell
from matscout.params import Matching
from matscout.resume.fingerprint import fingerprint
from matscout.resume.parts import FOLDER_DIGITS, Parts
from matscout.resume.work_folders import CHECKPOINTS, root

COMPARING: Final = "matscout.curation.duplicates.structure_matching"
LIBRARIES: Final = ("pymatgen", "moyopy", "numpy")
COMPARED: Final = "compared"
REDUCED: Final = "reduced"  # cells of a run that has not compared them yet
CONTENT: Final = "content"
MATCHES: Final = "matches"  # of a cell with later ones
MATCH: Final = pa.struct(
    [
        ("second", pa.string()),
        *((name, pa.float64()) for name in ("rms", "max_distance", "volume_difference", "strain")),
        ("same_material", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class ContentEdge:
    """A match between two different contents, `first` < `second`; scores as in `structure_matching.Match`."""

    first: str
    second: str
    rms: float
    max_distance: float
    volume_difference: float
    strain: float
    same_material: bool


@dataclass(frozen=True)
class Compared:
    """Crystals of which all that share a block have been compared, and their matches.

    Attributes:
        cells: content key -> reduced cell.
        edges: all matches among them.
    """

    cells: Mapping[str, ReducedCell] = field(default_factory=dict)
    edges: tuple[ContentEdge, ...] = ()

    def with_blocks_of(self, older: Self) -> "Compared":
        """Add the blocks of `older` that hold none of these cells and so are still complete."""
        blocks = {cell.block for cell in self.cells.values()}
        kept = {key: cell for key, cell in older.cells.items() if cell.block not in blocks}
        edges = tuple(edge for edge in older.edges if edge.first in kept)
        return Compared({**kept, **self.cells}, (*edges, *self.edges))


def cache_directory() -> Path:
    """Where the stage `curate` keeps its comparisons: beside the pipeline's other checkpoints."""
    return root() / CHECKPOINTS / "curation"


def cache_parts(directory: Path, settings: Matching) -> Parts:
    """What was kept with these tolerances, the code that compares and the libraries that it calls.

    Args:
        directory: of all comparisons (`cache_directory`).
        settings: tolerances.
    """
    key = fingerprint(settings.model_dump(mode="json"), inputs=(), code=[__name__, COMPARING], libraries=LIBRARIES)
    folder = directory / key[:FOLDER_DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    return Parts(folder)


def load_compared(parts: Parts | None) -> Compared:
    """What an earlier run compared; empty where there is none, or where it is damaged."""
    if parts is None or (table := parts.table(COMPARED)) is None:
        return Compared()
    rows = table.to_pylist()
    edges = (ContentEdge(first=row[CONTENT], **match) for row in rows for match in row[MATCHES])
    return Compared(_cells_of(rows), tuple(edges))


def save_compared(parts: Parts | None, compared: Compared) -> None:
    """Replace what was compared, and remove the cells that had not been compared.

    One table holds cells and matches: cells without their matches would read as comparisons that found none.
    """
    if parts is None:
        return
    matches: dict[str, list[dict[str, object]]] = {key: [] for key in compared.cells}
    for edge in compared.edges:
        matches[edge.first].append({name: value for name, value in asdict(edge).items() if name != "first"})
    cells = _cells_table(compared.cells)
    found = pa.array([matches[key] for key in cells.column(CONTENT).to_pylist()], pa.list_(MATCH))
    parts.save_table(COMPARED, cells.append_column(MATCHES, found))
    parts.remove(f"{REDUCED}-*")


def load_reduced(parts: Parts | None) -> dict[str, ReducedCell]:
    """Content key -> cell, of the crystals that a run reduced before it was killed."""
    if parts is None:
        return {}
    tables = [parts.table(name) for name in parts.names(f"{REDUCED}-*", "arrow")]
    return {key: cell for table in tables if table for key, cell in _cells_of(table.to_pylist()).items()}


def keep_reduced(parts: Parts, cells: Mapping[str, ReducedCell]) -> None:
    """Keep some more reduced cells, until `save_compared`."""
    parts.save_table(f"{REDUCED}-{min(cells)}", _cells_table(cells))


def _cells_table(cells: Mapping[str, ReducedCell]) -> pa.Table:
    rows = [
        {CONTENT: key, columns.SPACE_GROUP: cell.space_group, **cell.crystal.to_row()}
        for key, cell in sorted(cells.items())
    ]
    names = [CONTENT, columns.SPACE_GROUP, columns.LATTICE, columns.SPECIES, columns.FRAC_COORDS]
    return pa.Table.from_pandas(pd.DataFrame(rows, columns=pd.Index(names)), preserve_index=False)


def _cells_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, ReducedCell]:
    return {row[CONTENT]: ReducedCell(Crystal.from_row(row), row[columns.SPACE_GROUP]) for row in rows}
