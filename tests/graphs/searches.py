"""Neighbours and orbits of one cell, by the compiled functions that pack a store."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matscout.errors import InputError
from matscout.graphs import symmetry
from matscout.graphs.neighbor_search import FINE, cell_problem, overlap_problem, rejection_of, search


class Neighbors(NamedTuple):
    """Neighbours of some atoms of one cell, see `search`."""

    centers: NDArray[np.int64]
    counts: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @property
    def offsets(self):
        """(n_centers + 1,) where each centre's edges begin and end."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])


class Orbits(NamedTuple):
    """Symmetry-equivalent atoms of one cell, see `orbits_of`."""

    representatives: NDArray[np.int64]
    orbit_of_atom: NDArray[np.int64]
    multiplicity: NDArray[np.int64]


def nearest_neighbors(lattice, frac_coords, n_neighbors, centers=None):
    """Checks of the cell, the search, and checks of the edges, as in the packing of a store.

    Raises:
        InputError: the cell is flat or not finite, or two atoms overlap.
    """
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    frac_coords = np.ascontiguousarray(frac_coords, dtype=np.float64).reshape(-1, 3)
    refuse(*cell_problem(lattice, frac_coords))
    wanted = np.arange(len(frac_coords)) if centers is None else np.asarray(centers, dtype=np.int64)
    counts, neighbors, vectors = search(lattice, frac_coords, wanted, n_neighbors)
    refuse(*overlap_problem(counts, vectors))
    return Neighbors(wanted, counts, neighbors, vectors)


def refuse(problem, value):
    if problem != FINE:
        raise InputError(rejection_of(-1, problem, value).detail)


def find_orbits(lattice, frac_coords, numbers, symprec):
    coords = np.ascontiguousarray(frac_coords, dtype=np.float64)
    return Orbits(*symmetry.orbits_of(np.ascontiguousarray(lattice, dtype=np.float64), coords, numbers, symprec))
