"""Comparisons made before: adding a database compares only what is new.

The cache lies outside DVC's outs, in `.checkpoints/curation/<fingerprint>/`; the fingerprint covers the
tolerances, the code that judges and the versions of the libraries it calls. Results are the same with
and without it. It may be deleted at any time.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from matscout import columns
from matscout.crystal import Crystal
from matscout.curation.duplicates.reduced_cell import ReducedCell
from matscout.errors import StoreError
from matscout.files import atomic_path, sha256_of, sha256_of_json
from matscout.params import Matching

JUDGES: Final = (
    "reduced_cell.py",
    "structure_matching.py",
    "chirality.py",
)  # files whose change makes old comparisons void
LIBRARIES: Final = ("pymatgen", "moyopy", "numpy")
CELLS_NAME: Final = "cells.parquet"
EDGES_NAME: Final = "edges.parquet"
PARTS_NAME: Final = "reduced"  # cells of a run that has not compared them yet
CONTENT: Final = "content"


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
    """Crystals that were all compared with each other, as far as they share a block, and what matched.

    Attributes:
        cells: content key -> reduced cell.
        edges: all matches among them.
    """

    cells: Mapping[str, ReducedCell] = field(default_factory=dict)
    edges: tuple[ContentEdge, ...] = ()

    def with_blocks_of(self, older: Self) -> "Compared":
        """Add the blocks of `older` that hold none of these cells: they stay complete as they were."""
        blocks = {cell.block for cell in self.cells.values()}
        kept = {key: cell for key, cell in older.cells.items() if cell.block not in blocks}
        edges = tuple(edge for edge in older.edges if edge.first in kept)
        return Compared({**kept, **self.cells}, (*edges, *self.edges))


def cache_directory() -> Path:
    """Where the stage `curate` keeps its comparisons: beside the pipeline's other checkpoints."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".checkpoints" / "curation"


def fingerprint(settings: Matching) -> str:
    """16 hex digits of everything that a comparison depends on besides the two crystals."""
    room = Path(__file__).parent
    return sha256_of_json(
        {
            "settings": settings.model_dump(),
            "code": {name: sha256_of(room / name) for name in JUDGES},
            "libraries": {name: version(name) for name in LIBRARIES},
        }
    )[:16]


def load_compared(root: Path | None, settings: Matching) -> Compared:
    """What an earlier run compared with the same fingerprint; nothing where there was none.

    Raises:
        StoreError: the cache is damaged.
    """
    if root is None or not (folder := root / fingerprint(settings)).joinpath(EDGES_NAME).is_file():
        return Compared()
    try:
        edges = pq.read_table(folder / EDGES_NAME).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _damaged(folder, error) from error
    return Compared(_read_cells(folder / CELLS_NAME), tuple(ContentEdge(**edge) for edge in edges))


def save_compared(root: Path | None, settings: Matching, compared: Compared) -> None:
    """Replace the cache as a whole: cells without their edges would read as comparisons without matches."""
    if root is None:
        return
    with atomic_path(root / fingerprint(settings), mark=(CELLS_NAME, PARTS_NAME)) as folder:
        folder.mkdir(parents=True)
        _write_cells(folder / CELLS_NAME, compared.cells)
        pq.write_table(_edges_table(compared.edges), folder / EDGES_NAME, compression="zstd")


def load_reduced(root: Path | None, settings: Matching) -> dict[str, ReducedCell]:
    """Content key -> cell, of the crystals that a run reduced before it was killed.

    Raises:
        StoreError: a part is damaged.
    """
    if root is None:
        return {}
    parts = sorted((root / fingerprint(settings) / PARTS_NAME).glob("*.parquet"))
    return {key: cell for part in parts for key, cell in _read_cells(part).items()}


def keep_reduced(root: Path, settings: Matching, cells: Mapping[str, ReducedCell]) -> None:
    """Write one more part of reduced cells; `save_compared` takes all parts away."""
    folder = root / fingerprint(settings) / PARTS_NAME
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / f"{min(cells)}.parquet") as part:
        _write_cells(part, cells)


def _write_cells(path: Path, cells: Mapping[str, ReducedCell]) -> None:
    rows = [
        {CONTENT: key, columns.SPACE_GROUP: cell.space_group, **cell.crystal.to_row()}
        for key, cell in sorted(cells.items())
    ]
    pq.write_table(_table(rows, (CONTENT, columns.SPACE_GROUP)), path, compression="zstd")


def _read_cells(path: Path) -> dict[str, ReducedCell]:
    try:
        rows = pq.read_table(path).to_pandas().to_dict("records")
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path.parent, error) from error
    return {row[CONTENT]: ReducedCell(Crystal.from_row(row), int(row[columns.SPACE_GROUP])) for row in rows}


def _damaged(folder: Path, error: Exception) -> StoreError:
    return StoreError(f"{folder} is damaged ({error}); delete it, the rows are compared anew")


def _table(rows: list[dict[str, object]], names: Iterable[str]) -> pa.Table:
    every = [*names, columns.LATTICE, columns.SPECIES, columns.FRAC_COORDS]
    return pa.Table.from_pandas(pd.DataFrame(rows, columns=pd.Index(every)), preserve_index=False)


def _edges_table(edges: Iterable[ContentEdge]) -> pa.Table:
    names = list(ContentEdge.__dataclass_fields__)
    return pa.Table.from_pandas(pd.DataFrame([asdict(e) for e in edges], columns=pd.Index(names)), preserve_index=False)
