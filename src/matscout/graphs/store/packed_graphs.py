"""Many graphs as a few flat arrays: what is stored, mapped and cut into batches."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PackedGraphs:
    """Neighbour graphs of many crystals; atoms are orbits where the asymmetric unit is used.

    Attributes:
        atom_offsets: (n_crystals + 1,) int64, where each crystal's atoms begin and end.
        atomic_numbers: (n_atoms,) uint8.
        multiplicity: (n_atoms,) uint16, atoms of the primitive cell that this one stands for.
        edge_offsets: (n_atoms + 1,) int64, where each atom's edges begin and end.
        neighbors: (n_edges,) uint16, atom *within the crystal* that an edge ends at.
        edge_vectors: (n_edges, 3) float32, Å, sorted by length for each centre.
    """

    atom_offsets: NDArray[np.int64]
    atomic_numbers: NDArray[np.uint8]
    multiplicity: NDArray[np.uint16]
    edge_offsets: NDArray[np.int64]
    neighbors: NDArray[np.uint16]
    edge_vectors: NDArray[np.float32]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """At least one part, one after the other."""
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
        for name in OFFSETS:
            joined[name] = join_offsets([getattr(part, name) for part in parts])
        return cls(**joined)


ARRAYS = tuple(field.name for field in fields(PackedGraphs))
OFFSETS = ("atom_offsets", "edge_offsets")


def join_offsets(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Offsets of arrays that are laid one after the other."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.diff(part) for part in parts]))])
