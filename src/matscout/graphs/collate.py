"""Cut a batch out of packed graphs: compiled, without an intermediate object per crystal; on the CPU or on a device.

Graphs may be kept on a device, so that batches are cut out there and nothing but row numbers goes to it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matscout.graphs.compiled import compiled
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.neighbor_search import count_kept
from matscout.graphs.pack_crystals import PackedGraphs


def collate(packed: PackedGraphs, rows: NDArray[np.int64], *, n_neighbors: int, cutoff: float) -> CrystalGraph:
    """Join crystals into one graph, with the nearest part of their edges (see `neighbor_search`).

    Args:
        packed: graphs of all crystals.
        rows: (n,) crystals, in any order.
        n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
        cutoff: Å; shells that begin beyond it are dropped, but never an atom's nearest.

    Returns:
        A batch of n crystals, in the order of `rows`.
    """
    arrays = _collate(
        packed.atom_offsets,
        packed.atomic_numbers,
        packed.multiplicity,
        packed.edge_offsets,
        packed.neighbors,
        packed.edge_vectors,
        rows,
        n_neighbors,
        cutoff,
    )
    return CrystalGraph(*(torch.from_numpy(array) for array in arrays), n_crystals=len(rows))


def count_edges_of_atoms(packed: PackedGraphs, *, n_neighbors: int, cutoff: float) -> NDArray[np.int64]:
    """Count the edges of each atom that a batch with these settings has.

    Args:
        packed: graphs of all crystals.
        n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
        cutoff: Å; shells that begin beyond it are dropped, but never an atom's nearest.

    Returns:
        (n_atoms,).
    """
    return _count_edges_of_atoms(packed.edge_offsets, packed.edge_vectors, n_neighbors, cutoff)


def count_edges(packed: PackedGraphs, *, n_neighbors: int, cutoff: float) -> NDArray[np.int64]:
    """Count the edges of each crystal that a batch with these settings has.

    Args:
        packed: graphs of all crystals.
        n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
        cutoff: Å; shells that begin beyond it are dropped, but never an atom's nearest.

    Returns:
        (n_crystals,).
    """
    return _count_edges(packed.atom_offsets, packed.edge_offsets, packed.edge_vectors, n_neighbors, cutoff)


@compiled
def _count_edges_of_atoms(
    edge_offsets: NDArray[np.int64], vectors: NDArray[np.float32], n_neighbors: int, cutoff: float
) -> NDArray[np.int64]:
    counts = np.empty(len(edge_offsets) - 1, np.int64)
    for atom in range(len(counts)):
        counts[atom] = count_kept(vectors, edge_offsets[atom], edge_offsets[atom + 1], n_neighbors, cutoff)
    return counts


@compiled
def _count_edges(
    atom_offsets: NDArray[np.int64],
    edge_offsets: NDArray[np.int64],
    vectors: NDArray[np.float32],
    n_neighbors: int,
    cutoff: float,
) -> NDArray[np.int64]:
    counts = np.zeros(len(atom_offsets) - 1, np.int64)
    for row in range(len(counts)):
        for atom in range(atom_offsets[row], atom_offsets[row + 1]):
            counts[row] += count_kept(vectors, edge_offsets[atom], edge_offsets[atom + 1], n_neighbors, cutoff)
    return counts


@compiled
def _collate(
    atom_offsets: NDArray[np.int64],
    atomic_numbers: NDArray[np.uint8],
    multiplicity: NDArray[np.uint16],
    edge_offsets: NDArray[np.int64],
    neighbors: NDArray[np.uint16],
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    n_neighbors: int,
    cutoff: float,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.float32],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float32],
]:
    """The six arrays of `CrystalGraph`, in its order."""
    n_atoms = 0
    for row in rows:
        n_atoms += atom_offsets[row + 1] - atom_offsets[row]
    numbers_out = np.empty(n_atoms, np.int64)
    multiplicity_out = np.empty(n_atoms, np.float32)
    crystal_out = np.empty(n_atoms, np.int64)
    kept = np.empty(n_atoms, np.int64)
    out = 0
    for crystal, row in enumerate(rows):
        for atom in range(atom_offsets[row], atom_offsets[row + 1]):
            numbers_out[out] = atomic_numbers[atom]
            multiplicity_out[out] = multiplicity[atom]
            crystal_out[out] = crystal
            kept[out] = count_kept(vectors, edge_offsets[atom], edge_offsets[atom + 1], n_neighbors, cutoff)
            out += 1

    n_edges = kept.sum()
    centers_out = np.empty(n_edges, np.int64)
    neighbors_out = np.empty(n_edges, np.int64)
    vectors_out = np.empty((n_edges, 3), np.float32)
    out, edge_out = 0, 0
    for row in rows:
        start = out
        for atom in range(atom_offsets[row], atom_offsets[row + 1]):
            first = edge_offsets[atom]
            for edge in range(first, first + kept[out]):
                centers_out[edge_out] = out
                neighbors_out[edge_out] = start + neighbors[edge]
                for c in range(3):
                    vectors_out[edge_out, c] = vectors[edge, c]
                edge_out += 1
            out += 1
    return numbers_out, multiplicity_out, crystal_out, centers_out, neighbors_out, vectors_out


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
        """Join crystals into one graph on the device; see `GraphStore.batch`.

        Args:
            rows: (n,) crystals, in any order.
            n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
            cutoff: Å; shells that begin beyond it are dropped, but never an atom's nearest.

        Returns:
            A batch of n crystals, in the order of `rows`.
        """
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
