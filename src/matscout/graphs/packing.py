"""Many graphs as a few flat arrays, made from a block of crystals."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matscout.errors import InputError
from matscout.graphs.blocks import MAX_ATOMS, CrystalBlock
from matscout.graphs.neighbors import check_cell, check_overlap, search
from matscout.graphs.symmetry import find_orbits, trivial_orbits
from matscout.params import Graphs


@dataclass(frozen=True)
class PackedGraphs:
    """Neighbour graphs of many crystals; atoms are orbits where the asymmetric unit is used.

    Attributes:
        atom_offsets: (n_crystals + 1,) int64, where each crystal's atoms begin and end.
        whole_cell: (n_crystals,) bool, no symmetry was found or asked for: every atom stands for itself.
        atomic_numbers: (n_atoms,) uint8.
        multiplicity: (n_atoms,) uint16, atoms of the primitive cell that this one stands for.
        edge_offsets: (n_atoms + 1,) int64, where each atom's edges begin and end.
        neighbors: (n_edges,) uint16, atom *within the crystal* that an edge ends at.
        edge_vectors: (n_edges, 3) float32, Å, sorted by length for each centre.
    """

    atom_offsets: NDArray[np.int64]
    whole_cell: NDArray[np.bool_]
    atomic_numbers: NDArray[np.uint8]
    multiplicity: NDArray[np.uint16]
    edge_offsets: NDArray[np.int64]
    neighbors: NDArray[np.uint16]
    edge_vectors: NDArray[np.float32]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """One after the other; offsets are shifted."""
        joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        for name in OFFSETS:
            joined[name] = join_offsets([getattr(part, name) for part in parts])
        return cls(**joined)


ARRAYS = tuple(field.name for field in fields(PackedGraphs))
OFFSETS = ("atom_offsets", "edge_offsets")


def join_offsets(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Offsets of arrays laid one after the other."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.diff(part) for part in parts]))])


def pack_graphs(block: CrystalBlock, settings: Graphs) -> PackedGraphs:
    """Neighbour graphs of a block of crystals.

    Raises:
        InputError: a cell is flat, not finite, too large or has overlapping atoms; the message names its id.
    """
    graphs = []
    for row, name in enumerate(block.ids):
        atoms = slice(block.offsets[row], block.offsets[row + 1])
        try:
            graphs.append(_pack(block.lattices[row], block.frac_coords[atoms], block.numbers[atoms], settings))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return PackedGraphs.concatenate([_nothing(), *graphs])


def _pack(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: NDArray[np.uint8], settings: Graphs
) -> PackedGraphs:
    """The graph of one crystal."""
    check_cell(lattice, frac_coords)
    if len(numbers) > MAX_ATOMS:
        raise InputError(f"the cell has {len(numbers)} atoms, at most {MAX_ATOMS} can be stored; give a smaller cell")
    orbits = find_orbits(lattice, frac_coords, numbers, settings.symprec) if settings.asymmetric_unit else None
    whole_cell = orbits is None
    orbits = orbits or trivial_orbits(len(numbers))
    counts, neighbors, vectors = search(lattice, frac_coords, orbits.representatives, settings.n_neighbors)
    check_overlap(counts, vectors)
    return PackedGraphs(
        atom_offsets=np.array([0, len(counts)]),
        whole_cell=np.array([whole_cell]),
        atomic_numbers=numbers[orbits.representatives],
        multiplicity=orbits.multiplicity.astype(np.uint16),
        edge_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        neighbors=orbits.orbit_of_atom[neighbors].astype(np.uint16),
        edge_vectors=vectors,
    )


def _nothing() -> PackedGraphs:
    start = np.zeros(1, np.int64)
    return PackedGraphs(
        start,
        np.zeros(0, np.bool_),
        np.zeros(0, np.uint8),
        np.zeros(0, np.uint16),
        start,
        np.zeros(0, np.uint16),
        np.zeros((0, 3), np.float32),
    )
