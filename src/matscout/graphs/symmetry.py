"""The asymmetric unit: which atoms of a cell are copies of one another."""

from dataclasses import dataclass

import moyopy
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orbits:
    """Symmetry-equivalent atoms of one cell.

    Attributes:
        representatives: (n_orbits,) int64, the first atom of each orbit, ascending.
        orbit_of_atom: (n_atoms,) int64 in [0, n_orbits).
        multiplicity: (n_orbits,) int64, atoms of the orbit in the *primitive* cell, so that a cell and
            its supercells have the same.
    """

    representatives: NDArray[np.int64]
    orbit_of_atom: NDArray[np.int64]
    multiplicity: NDArray[np.int64]


def trivial_orbits(n_atoms: int) -> Orbits:
    """Every atom for itself: the whole cell as it is."""
    atoms = np.arange(n_atoms)
    return Orbits(atoms, atoms, np.ones(n_atoms, np.int64))


def find_orbits(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: NDArray[np.uint8], symprec: float
) -> Orbits | None:
    """Orbits of the space group found within `symprec` (Å); None where the search finds no group."""
    cell = moyopy.Cell(lattice.tolist(), frac_coords.tolist(), numbers.tolist())
    try:
        dataset = moyopy.MoyoDataset(cell, symprec=symprec)
    except ValueError:
        return None
    representatives, orbit_of_atom, sizes = np.unique(dataset.orbits, return_inverse=True, return_counts=True)
    n_primitive = len(dataset.prim_std_cell.numbers)
    return Orbits(representatives, orbit_of_atom, sizes * n_primitive // len(numbers))
