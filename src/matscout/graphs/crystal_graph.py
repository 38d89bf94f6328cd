"""One immutable graph type for a single crystal and for a batch of them."""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class CrystalGraph:
    """One or many crystals as one disconnected graph, edges grouped by centre and sorted by distance.

    Atoms are the symmetry-inequivalent ones of the primitive cell when the graph was built with
    `asymmetric_unit` (Ruff et al., "Connectivity optimized nested line graph networks for crystal
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
    """The crystals `start` to `stop` - 1 of a batch, which shares the batch's memory.

    Atoms are grouped by crystal and edges by centre, so that crystals in a row are rows of every array.
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
