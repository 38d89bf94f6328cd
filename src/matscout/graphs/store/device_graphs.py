"""Graphs kept on a device, so that batches are cut out there and nothing but row numbers goes to it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.store.collate import count_edges, count_edges_of_atoms
from matscout.graphs.store.packed_graphs import PackedGraphs


class ResidentGraphs:
    """The graphs of a store in a device's memory; gives the batches that the store gives.

    All members of an ensemble read the same graphs, which go to the device once: some 4 kB a crystal at 24 neighbours.

    Args:
        ids: (n_crystals,) str, in row order.
        packed: the store's arrays.
        device: where to keep them.
    """

    def __init__(self, ids: NDArray[np.str_], packed: PackedGraphs, device: torch.device | str) -> None:
        self.ids = ids
        self._packed = packed
        self._device = torch.device(device)
        # torch has no arithmetic for the unsigned types of the store
        self._atomic_numbers = self._put(packed.atomic_numbers.astype(np.int64))
        self._multiplicity = self._put(packed.multiplicity.astype(np.float32))
        self._atom_offsets = self._put(packed.atom_offsets)
        self._edge_offsets = self._put(packed.edge_offsets)
        self._neighbors = self._put(packed.neighbors.astype(np.int32))
        self._edge_vectors = self._put(packed.edge_vectors)
        self._kept: dict[tuple[int, float], Tensor] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def edge_counts(self, *, n_neighbors: int, cutoff: float) -> NDArray[np.int64]:
        """(n_crystals,) edges that each crystal has in a batch with these settings."""
        self._edges_of_atoms(n_neighbors, cutoff)
        return count_edges(self._packed, n_neighbors=n_neighbors, cutoff=float(cutoff))

    def batch(self, rows: NDArray[np.int64], *, n_neighbors: int, cutoff: float) -> CrystalGraph:
        """The crystals `rows` as one graph on the device; see `GraphStore.batch`."""
        kept = self._edges_of_atoms(n_neighbors, cutoff)
        crystals = self._put(np.asarray(rows, dtype=np.int64))
        first = self._atom_offsets[crystals]
        crystal_of_atom, place = _expand(self._atom_offsets[crystals + 1] - first)
        atoms = first[crystal_of_atom] + place
        centers, rank = _expand(kept[atoms])
        edges = self._edge_offsets[atoms][centers] + rank
        first_in_batch = torch.arange(len(atoms), device=self._device) - place
        return CrystalGraph(
            atomic_numbers=self._atomic_numbers[atoms],
            multiplicity=self._multiplicity[atoms],
            crystal_of_atom=crystal_of_atom,
            centers=centers,
            neighbors=first_in_batch[centers] + self._neighbors[edges],
            edge_vectors=self._edge_vectors[edges],
            n_crystals=len(rows),
        )

    def _edges_of_atoms(self, n_neighbors: int, cutoff: float) -> Tensor:
        """(n_atoms,) edges that each atom keeps with these settings, counted once."""
        key = (n_neighbors, float(cutoff))
        if key not in self._kept:
            counts = count_edges_of_atoms(self._packed, n_neighbors=n_neighbors, cutoff=float(cutoff))
            self._kept[key] = self._put(counts)
        return self._kept[key]

    def _put(self, values: NDArray[np.generic]) -> Tensor:
        return torch.tensor(values, device=self._device)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) lengths -> for each of their sum of places: the group that it belongs to, and its rank in the group."""
    group = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    starts = counts.cumsum(0) - counts
    return group, torch.arange(len(group), device=counts.device) - starts[group]
