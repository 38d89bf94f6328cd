"""One immutable graph type for a single crystal and for a batch of them, and how batches are formed.

Batches are shuffled for training, and of equal work for prediction. A compiled loop cuts them out of packed graphs,
without an intermediate object per crystal. Graphs may be kept on a device, so that batches are cut out there and only
row numbers are sent to it.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matscout.errors import ParameterError
from matscout.graphs.compiled import compiled
from matscout.graphs.neighbor_search import count_kept
from matscout.graphs.pack_crystals import PackedGraphs


@dataclass(frozen=True)
class CrystalGraph:
    """One or many crystals as one disconnected graph, edges grouped by centre and sorted by distance.

    Atoms are the symmetry-inequivalent ones of the primitive cell when the graph was built with
    `symmetry` (Ruff et al., "Connectivity optimized nested line graph networks for crystal
    structures", Digital Discovery 2024); `multiplicity` then weighs them in every per-crystal mean.

    Attributes:
        atomic_numbers: (n_atoms,) int64.
        multiplicity: (n_atoms,) float32, how many atoms of the cell this one stands for.
        crystal_of_atom: (n_atoms,) int64, ascending, in [0, n_crystals).
        centers: (n_edges,) int64, ascending: the atom an edge starts at and sends its message to.
        neighbors: (n_edges,) int64: the atom an edge ends at.
        edge_vectors: (n_edges, 3) float32, from centre to neighbour, Å.
        n_crystals: number of crystals.
    """

    atomic_numbers: Tensor
    multiplicity: Tensor
    crystal_of_atom: Tensor
    centers: Tensor
    neighbors: Tensor
    edge_vectors: Tensor
    n_crystals: int

    @property
    def n_atoms(self) -> int:
        """Number of (inequivalent) atoms in the batch."""
        return self.atomic_numbers.shape[0]

    @property
    def n_edges(self) -> int:
        """Number of directed edges in the batch."""
        return self.centers.shape[0]

    @property
    def distances(self) -> Tensor:
        """(n_edges,) float32, Å."""
        return self.edge_vectors.norm(dim=-1)

    def to(self, device: torch.device | str) -> Self:
        """The same graph on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "n_crystals"}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


def crystals_between(graph: CrystalGraph, start: int, stop: int) -> CrystalGraph:
    """Take crystals in a row from a batch, sharing the batch's memory.

    Atoms are grouped by crystal and edges by centre, so that crystals in a row are rows of every array.

    Args:
        graph: a batch.
        start: the first crystal.
        stop: the crystal after the last.

    Returns:
        A batch of stop - start crystals.
    """
    bounds = torch.tensor([start, stop], device=graph.crystal_of_atom.device)
    first, last = torch.searchsorted(graph.crystal_of_atom, bounds).tolist()
    atoms = torch.tensor([first, last], device=graph.centers.device)
    edge, end = torch.searchsorted(graph.centers, atoms).tolist()
    return replace(
        graph,
        atomic_numbers=graph.atomic_numbers[first:last],
        multiplicity=graph.multiplicity[first:last],
        crystal_of_atom=graph.crystal_of_atom[first:last] - start,
        centers=graph.centers[edge:end] - first,
        neighbors=graph.neighbors[edge:end] - first,
        edge_vectors=graph.edge_vectors[edge:end],
        n_crystals=stop - start,
    )


def training_batches(rows: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffle rows and cut them into batches of nearly one size.

    The order depends on seed and epoch alone. There are ceil(n / batch_size) batches; their sizes differ by at most
    one, so that no crystal is dropped and no tiny last batch makes a noisy step.

    Args:
        rows: (n,) rows of a store.
        batch_size: largest number of crystals in a batch.
        seed: of the shuffle.
        epoch: each has an order of its own.

    Returns:
        The batches; no batch for no rows.

    Raises:
        ParameterError: `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ParameterError(f"batch_size = {batch_size} must be at least 1")
    if len(rows) == 0:
        return []
    shuffled = np.random.default_rng([seed, epoch]).permutation(np.asarray(rows, dtype=np.int64))
    return np.array_split(shuffled, -(-len(rows) // batch_size))


def inference_batches(edge_counts: NDArray[np.int64], *, max_edges: int) -> list[NDArray[np.int64]]:
    """Group crystals by size, so that each batch has at most `max_edges` edges, largest crystals first.

    Similar sizes go together, and a batch that would not fit into memory comes first. A crystal with more than
    `max_edges` edges is a batch of its own.

    Args:
        edge_counts: (n,) edges of each crystal.
        max_edges: of a batch.

    Returns:
        Batches of positions 0 to n - 1, with which the caller restores the order.

    Raises:
        ParameterError: `max_edges` is less than 1.
    """
    if max_edges < 1:
        raise ParameterError(f"max_edges = {max_edges} must be at least 1")
    order = np.argsort(-np.asarray(edge_counts, dtype=np.int64), kind="stable")
    batches, start, total = [], 0, 0
    for position, count in enumerate(np.asarray(edge_counts)[order].tolist()):
        if position > start and total + count > max_edges:
            batches.append(order[start:position])
            start, total = position, 0
        total += count
    return [*batches, order[start:]] if len(order) else []


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
    """The graphs of a store in the memory of a device; makes the same batches as the store.

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
    """Expand (n,) lengths of groups: the group of each member, and its rank in the group, (sum of lengths,) each."""
    group = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    starts = counts.cumsum(0) - counts
    return group, torch.arange(len(group), device=counts.device) - starts[group]
