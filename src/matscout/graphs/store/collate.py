"""Cut a batch out of packed graphs: compiled, without an intermediate object per crystal."""

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.neighbors.neighbor_shells import count_kept
from matscout.graphs.store.packed_graphs import PackedGraphs


def collate(packed: PackedGraphs, rows: NDArray[np.int64], *, n_neighbors: int, cutoff: float) -> CrystalGraph:
    """The crystals `rows`, in that order, with the nearest part of their edges (see `shells`)."""
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
    """(n_atoms,) edges of each atom in a batch with these settings."""
    return _count_edges_of_atoms(packed.edge_offsets, packed.edge_vectors, n_neighbors, cutoff)


def count_edges(packed: PackedGraphs, *, n_neighbors: int, cutoff: float) -> NDArray[np.int64]:
    """(n_crystals,) edges of each crystal in a batch with these settings."""
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
