"""One immutable graph type for a single crystal and for a batch of them, and which crystals go together.

Batches are shuffled to train on, and of equal work to predict with.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matscout.errors import ParameterError


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
