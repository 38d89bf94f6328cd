"""The asymmetric unit: which atoms of a cell are copies of one another under its space group.

Only the partition into orbits is needed here, not the group's name or its standard setting, which is
what general symmetry finders (spglib, moyo) spend most of their time on. The search follows theirs:
pure translations give the primitive cell, the reduced primitive lattice gives candidate rotations, and
each rotation needs one translation that carries every atom onto one of its kind (Togo, Shinohara and
Tanaka, "Spglib: a software library for crystal symmetry search", Sci. Technol. Adv. Mater., Meth. 2024).
Tests hold the partition against moyo's.
"""

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled
from matscout.graphs.neighbors.cell_checks import inverse, product
from matscout.graphs.neighbors.lattice_reduction import reduce_lattice
from matscout.graphs.symmetry.lattice_rotations import lattice_rotations
from matscout.graphs.symmetry.pure_translations import primitive_lattice, translations
from matscout.graphs.symmetry.symmetry_operations import join, maps_all, rarest_species, root, rotated


@compiled
def orbits_of(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: NDArray[np.uint8], symprec: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Orbits of the space group that holds within `symprec`.

    Args:
        lattice: (3, 3) rows are lattice vectors, Å; checked by `cell_problem`, as are the atoms.
        frac_coords: (n_atoms, 3) fractional, any image.
        numbers: (n_atoms,) atomic numbers.
        symprec: tolerance, Å.

    Returns:
        The first atom of each orbit, (n_orbits,), ascending; the orbit of each atom, (n_atoms,), in [0, n_orbits);
        and the atoms of each orbit in the *primitive* cell, (n_orbits,), so that a cell and its supercells have the
        same.
    """
    basis, transform = reduce_lattice(lattice)
    frac = product(frac_coords, inverse(transform.astype(np.float64)))
    parent = np.arange(len(frac))
    shifts = translations(basis, frac, numbers, symprec, parent)
    primitive, ok = primitive_lattice(basis, shifts)
    if not ok:  # translations within tolerance that form no group: the cell itself is taken as primitive
        parent = np.arange(len(frac))
        shifts = np.zeros((1, 3))
        primitive = basis
    primitive, _ = reduce_lattice(primitive)
    atoms = np.array([atom for atom in range(len(frac)) if parent[atom] == atom])
    inside = product(product(frac[atoms], basis), inverse(primitive))
    _join_by_rotations(primitive, inside, numbers[atoms], symprec, atoms, parent)
    return _label(parent, len(shifts))


@compiled
def _join_by_rotations(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    symprec: float,
    atoms: NDArray[np.int64],
    parent: NDArray[np.int64],
) -> None:
    """Join atoms of the primitive cell that a rotation with some translation carries onto each other."""
    species, _ = rarest_species(numbers)
    members = np.array([atom for atom in range(len(frac)) if numbers[atom] == species])
    image, misses = np.empty(len(frac), np.int64), np.empty((len(frac), 3))
    for rotation in lattice_rotations(lattice, symprec):
        start = rotated(frac[members[0]], rotation)
        for member in members:
            if maps_all(lattice, frac, numbers, rotation, frac[member] - start, symprec, image, misses):
                for source in range(len(frac)):
                    join(parent, atoms[source], atoms[int(image[source])])
                break  # in a primitive cell a rotation has one translation


@compiled
def _label(
    parent: NDArray[np.int64], n_translations: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number the orbits in the order of their first atoms."""
    orbit_of_atom = np.empty(len(parent), np.int64)
    representatives = np.empty(len(parent), np.int64)
    sizes = np.zeros(len(parent), np.int64)
    n_orbits = 0
    for atom in range(len(parent)):
        lowest = root(parent, atom)  # the first atom of its orbit, because `join` keeps the lower index
        if lowest == atom:
            orbit_of_atom[atom] = n_orbits
            representatives[n_orbits] = atom
            n_orbits += 1
        else:
            orbit_of_atom[atom] = orbit_of_atom[lowest]
        sizes[orbit_of_atom[atom]] += 1
    return representatives[:n_orbits].copy(), orbit_of_atom, sizes[:n_orbits] // n_translations
