"""The graph store: the graphs of many crystals, in memory or memory-mapped from a folder."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pymatgen.core import Structure

from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.engine import parallel_map
from matscout.errors import InputError, StoreError
from matscout.graphs.crystal_graph import CrystalGraph, ResidentGraphs, collate, count_edges
from matscout.graphs.featurize import build_store, open_files
from matscout.graphs.pack_crystals import ARRAYS, CrystalBlock, PackedGraphs, pack_graphs, pack_usable, whole_crystals
from matscout.params import Graphs

__all__ = ["GraphStore", "build_store"]

_BLOCK = 2048  # crystals a worker takes at a time


class GraphStore:
    """Random access to the graphs of many crystals by row or by id.

    Attributes:
        ids: (n_crystals,) str, in row order.
        settings: how the graphs were built; a model's graph settings must not exceed them.
    """

    def __init__(self, ids: NDArray[np.str_], packed: PackedGraphs, settings: Graphs) -> None:
        self.ids = ids
        self.settings = settings
        self._packed = _read_only(packed)

    @classmethod
    def open(cls, directory: Path, *, verify: bool = False) -> Self:
        """Memory-map a store that `build_store` wrote; data are read on access.

        Args:
            directory: folder of the store.
            verify: whether to check the hash of every file, and not only its size.

        Raises:
            StoreError: missing, cut off, altered, or of another format version.
        """
        return cls(*open_files(Path(directory), verify=verify))

    @classmethod
    def from_crystals(
        cls, ids: Sequence[str], crystals: Sequence[Crystal], settings: Graphs, *, workers: int = 1
    ) -> Self:
        """Build graphs in memory, in the given order.

        Args:
            ids: n material ids.
            crystals: n cells, Å.
            settings: of the graphs.
            workers: processes at most.

        Returns:
            A store of n rows.

        Raises:
            InputError: a cell is broken (the message names its id), or an id occurs twice.
        """
        block = CrystalBlock.from_crystals(ids, crystals)
        firsts = range(0, max(len(block), 1), _BLOCK)
        tasks = [(block.part(first, min(first + _BLOCK, len(block))), settings) for first in firsts]
        if len(tasks) == 1:
            return cls(np.array(ids, dtype=np.str_), _pack_task(tasks[0]), settings)
        parts = parallel_map(_pack_task, tasks, workers=workers, description="graphs")
        return cls(np.array(ids, dtype=np.str_), PackedGraphs.concatenate(parts), settings)

    @classmethod
    def from_usable(
        cls, ids: Sequence[str], crystals: Sequence[Crystal], settings: Graphs
    ) -> tuple[Self, list[Rejection]]:
        """Build graphs in memory of the crystals that can have one.

        Args:
            ids: n material ids.
            crystals: n cells, Å.
            settings: of the graphs.

        Returns:
            A store of the usable crystals, in their order, and why the others have no graph, by row.
        """
        whole, rejections = whole_crystals(crystals)
        block = CrystalBlock.from_crystals([ids[row] for row in whole], [crystals[row] for row in whole])
        parts = []
        for first in range(0, max(len(block), 1), _BLOCK):
            packed, broken = pack_usable(block.part(first, min(first + _BLOCK, len(block))), settings)
            parts.append(packed)
            rejections += [replace(rejection, row=whole[first + rejection.row]) for rejection in broken]
        rejections = [replace(rejection, material_id=str(ids[rejection.row])) for rejection in rejections]
        without = {rejection.row for rejection in rejections}
        kept = np.array([name for row, name in enumerate(ids) if row not in without], dtype=np.str_)
        return cls(kept, PackedGraphs.concatenate(parts), settings), sorted(
            rejections, key=lambda rejection: rejection.row
        )

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: Sequence[str] | NDArray[np.str_]) -> NDArray[np.int64]:
        """Find the rows of ids.

        Args:
            ids: n material ids.

        Returns:
            (n,) rows, in the order of `ids`.

        Raises:
            StoreError: an id is not in the store.
        """
        rows = self._index.get_indexer(pd.Index(np.asarray(ids, dtype=object)))
        if (missing := np.flatnonzero(rows < 0)).size:
            named = ", ".join(str(ids[row]) for row in missing[:3])
            raise StoreError(f"{missing.size} id(s) are not in the graph store, such as {named}; featurize them first")
        return rows.astype(np.int64)

    def batch(self, rows: Sequence[int] | NDArray[np.int64], *, n_neighbors: int, cutoff: float) -> CrystalGraph:
        """Join crystals into one graph, with the nearest part of the stored edges.

        Args:
            rows: (n,) rows in any order, repeats allowed.
            n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
            cutoff: Å; shells that begin beyond it are dropped, but never an atom's nearest.

        Returns:
            A batch of n crystals, in the order of `rows`.

        Raises:
            StoreError: `n_neighbors` exceeds what is stored, or a row does not exist.
        """
        self._check_neighbors(n_neighbors)
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise StoreError(f"rows {rows.min()} to {rows.max()} asked for; the store has rows 0 to {len(self) - 1}")
        return collate(self._packed, rows, n_neighbors=n_neighbors, cutoff=float(cutoff))

    def on(self, device: torch.device | str) -> ResidentGraphs:
        """The same graphs in the memory of a device."""
        return ResidentGraphs(self.ids, self._packed, device)

    def edge_counts(self, *, n_neighbors: int, cutoff: float) -> NDArray[np.int64]:
        """(n_crystals,) edges that each crystal has in a batch with these settings."""
        self._check_neighbors(n_neighbors)
        return count_edges(self._packed, n_neighbors=n_neighbors, cutoff=float(cutoff))

    @cached_property
    def _index(self) -> pd.Index:
        index = pd.Index(self.ids.astype(object))
        if not index.is_unique:
            name = index[index.duplicated()][0]
            raise InputError(f"id {name!r} occurs more than once; ids must be unique to be looked up")
        return index

    def _check_neighbors(self, n_neighbors: int) -> None:
        if not 1 <= n_neighbors <= self.settings.n_neighbors:
            raise StoreError(
                f"{n_neighbors} neighbours asked for, the store holds {self.settings.n_neighbors}; "
                "raise graphs.n_neighbors or lower the member's graph.n_neighbors"
            )


def _pack_task(task: tuple[CrystalBlock, Graphs]) -> PackedGraphs:
    return pack_graphs(*task)


def _read_only(packed: PackedGraphs) -> PackedGraphs:
    """Plain read-only views: one compiled signature for memory and for memory maps."""
    views = {name: np.asarray(getattr(packed, name)).view() for name in ARRAYS}
    for view in views.values():
        view.flags.writeable = False
    return replace(packed, **views)


def create_crystal_graph(
    structure: Structure | Crystal,
    *,
    n_neighbors: int = 12,
    cutoff: float = 8.0,
    asymmetric_unit: bool = True,
    symprec: float = 1e-3,
) -> CrystalGraph:
    """Neighbour graph of one crystal; the structure is not changed.

    Args:
        structure: an ordered periodic structure.
        n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
        cutoff: Å; shells that begin beyond it are dropped, but never an atom's nearest.
        asymmetric_unit: symmetry-inequivalent atoms only, with multiplicities.
        symprec: Å, symmetry tolerance.

    Returns:
        A batch of one crystal.

    Raises:
        InputError: partial occupation, overlapping atoms, no volume, or an unknown element.
    """
    crystal = structure if isinstance(structure, Crystal) else _crystal_of(structure)
    settings = Graphs(n_neighbors=n_neighbors, asymmetric_unit=asymmetric_unit, symprec=symprec)
    store = GraphStore.from_crystals([crystal.reduced_formula], [crystal], settings)
    return store.batch([0], n_neighbors=n_neighbors, cutoff=cutoff)


def _crystal_of(structure: Structure) -> Crystal:
    try:
        return Crystal.from_structure(structure)
    except ValueError as error:
        raise InputError(str(error)) from error
