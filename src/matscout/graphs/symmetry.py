"""The asymmetric unit: the orbits of the atoms of a cell under its space group.

Only the partition into orbits is needed here, not the group's name or its standard setting, which is
what general symmetry finders (spglib, moyo) spend most of their time on. The search follows theirs:
pure translations give the primitive cell, the reduced primitive lattice gives candidate rotations, and
each rotation needs one translation that carries every atom onto one of its kind (Togo, Shinohara and
Tanaka, "Spglib: a software library for crystal symmetry search", Sci. Technol. Adv. Mater., Meth. 2024).
Tests hold the partition against moyo's.
"""

import math

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled
from matscout.graphs.neighbor_search import inverse, product, reduce_lattice


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
    parent = np.arange(len(frac_coords))
    primitive, inside, atoms, n_translations = _primitive_cell(lattice, frac_coords, numbers, symprec, parent)
    kinds = numbers[atoms]
    image, misses = np.empty(len(atoms), np.int64), np.empty((len(atoms), 3))
    for rotation in lattice_rotations(primitive, symprec):
        if _carries(primitive, inside, kinds, rotation, symprec, image, misses):
            for source in range(len(atoms)):
                join(parent, atoms[source], atoms[int(image[source])])
    return _label(parent, n_translations)


@compiled
def n_free_parameters(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: NDArray[np.uint8], symprec: float
) -> int:
    """Parameters that a relaxation can change at constant volume without breaking the symmetry.

    They are the free coordinates of the atoms, less those that move the crystal as a whole, and the free parameters
    of the lattice, less its volume. A group leaves as many free as the mean trace of its operations on the space of
    the parameters: on vectors, of the operations that keep an atom; on symmetric matrices, of all.

    Args:
        lattice: (3, 3) rows are lattice vectors, Å; checked by `cell_problem`, as are the atoms.
        frac_coords: (n_atoms, 3) fractional, any image.
        numbers: (n_atoms,) atomic numbers.
        symprec: tolerance, Å.

    Returns:
        Their number: 0 for rock salt, 1 for rutile's lattice and 1 for its oxygen.
    """
    parent = np.arange(len(frac_coords))
    primitive, inside, atoms, _ = _primitive_cell(lattice, frac_coords, numbers, symprec, parent)
    kinds = numbers[atoms]
    image, misses = np.empty(len(atoms), np.int64), np.empty((len(atoms), 3))
    keeping, along = np.zeros(len(atoms)), np.zeros(len(atoms))  # by atom: operations that keep it, and their traces
    orbit = np.arange(len(atoms))
    order, whole, shape = 0.0, 0.0, 0.0
    for rotation in lattice_rotations(primitive, symprec):
        if not _carries(primitive, inside, kinds, rotation, symprec, image, misses):
            continue
        trace, of_square = 0.0, 0.0
        for i in range(3):
            trace += rotation[i, i]
            for j in range(3):
                of_square += rotation[i, j] * rotation[j, i]
        order, whole, shape = order + 1.0, whole + trace, shape + (trace * trace + of_square) / 2.0
        for atom in range(len(atoms)):
            join(orbit, atom, image[atom])
            if image[atom] == atom:
                keeping[atom] += 1.0
                along[atom] += trace
    coordinates = 0.0
    for atom in range(len(atoms)):
        if orbit[atom] == atom:
            coordinates += along[atom] / keeping[atom]
    return max(0, int(np.rint(coordinates - whole / order + shape / order - 1.0)))


@compiled
def _primitive_cell(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    symprec: float,
    parent: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], int]:
    """The reduced primitive lattice, (n, 3) coordinates in it, the atoms of the cell that these are, translations.

    Atoms that a pure translation carries onto each other are joined in `parent`, which holds each atom by itself.
    """
    basis, transform = reduce_lattice(lattice)
    frac = product(frac_coords, inverse(transform.astype(np.float64)))
    shifts = translations(basis, frac, numbers, symprec, parent)
    primitive, ok = primitive_lattice(basis, shifts)
    if not ok:  # translations within tolerance that form no group: the cell itself is taken as primitive
        parent[:] = np.arange(len(frac))
        shifts = np.zeros((1, 3))
        primitive = basis
    primitive, _ = reduce_lattice(primitive)
    atoms = np.array([atom for atom in range(len(frac)) if parent[atom] == atom])
    inside = product(product(frac[atoms], basis), inverse(primitive))
    return primitive, inside, atoms, len(shifts)


@compiled
def _carries(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    rotation: NDArray[np.int64],
    symprec: float,
    image: NDArray[np.int64],
    misses: NDArray[np.float64],
) -> bool:
    """Whether a rotation with some translation carries a primitive cell onto itself; see `maps_all` for the rest."""
    species, _ = rarest_species(numbers)
    first = -1
    for member in range(len(frac)):
        if numbers[member] != species:
            continue
        if first < 0:
            first = member
        shift = frac[member] - rotated(frac[first], rotation)
        if maps_all(lattice, frac, numbers, rotation, shift, symprec, image, misses):
            return True  # in a primitive cell a rotation has one translation
    return False


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


_MAX_ROTATIONS = 48  # the order of the cubic point group; no lattice has more


@compiled
def lattice_rotations(lattice: NDArray[np.float64], symprec: float) -> NDArray[np.int64]:
    """(n, 3, 3) integer matrices that keep the metric of a reduced lattice within `symprec`.

    Row i is the image of lattice vector i in lattice coordinates; in a reduced cell its entries are -1, 0, 1.
    """
    lengths = np.empty(3)
    for axis in range(3):
        lengths[axis] = math.sqrt(_dot(lattice[axis], lattice[axis]))
    images, vectors, counts = _images_of_axes(lattice, lengths, symprec)
    angle01, slack01 = _dot(lattice[0], lattice[1]), symprec * (lengths[0] + lengths[1])
    angle02, slack02 = _dot(lattice[0], lattice[2]), symprec * (lengths[0] + lengths[2])
    angle12, slack12 = _dot(lattice[1], lattice[2]), symprec * (lengths[1] + lengths[2])
    found = np.empty((_MAX_ROTATIONS, 3, 3), np.int64)
    n_found = 0
    for i in range(counts[0]):
        for j in range(counts[1]):
            if abs(_dot(vectors[0, i], vectors[1, j]) - angle01) > slack01:
                continue
            for k in range(counts[2]):
                if abs(_dot(vectors[0, i], vectors[2, k]) - angle02) > slack02:
                    continue
                if abs(_dot(vectors[1, j], vectors[2, k]) - angle12) > slack12 or n_found == _MAX_ROTATIONS:
                    continue
                for c in range(3):
                    found[n_found, 0, c] = images[0, i, c]
                    found[n_found, 1, c] = images[1, j, c]
                    found[n_found, 2, c] = images[2, k, c]
                n_found += 1
    return found[:n_found]


@compiled
def _images_of_axes(
    lattice: NDArray[np.float64], lengths: NDArray[np.float64], symprec: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Per lattice vector the short vectors of its length: integers (3, 27, 3), Cartesian (3, 27, 3), counts (3,)."""
    images = np.empty((3, 27, 3), np.int64)
    vectors = np.empty((3, 27, 3))
    counts = np.zeros(3, np.int64)
    vector = np.empty(3)
    for a in range(-1, 2):
        for b in range(-1, 2):
            for c in range(-1, 2):
                for axis in range(3):
                    vector[axis] = a * lattice[0, axis] + b * lattice[1, axis] + c * lattice[2, axis]
                norm = math.sqrt(_dot(vector, vector))
                for axis in range(3):
                    if abs(norm - lengths[axis]) <= symprec:
                        images[axis, counts[axis], 0] = a
                        images[axis, counts[axis], 1] = b
                        images[axis, counts[axis], 2] = c
                        for c_axis in range(3):
                            vectors[axis, counts[axis], c_axis] = vector[c_axis]
                        counts[axis] += 1
    return images, vectors, counts


@compiled
def _dot(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


@compiled
def translations(
    basis: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    symprec: float,
    parent: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Find the pure translations of a cell and join in `parent` the atoms that they carry onto each other.

    Args:
        basis: (3, 3) lattice vectors in rows, Å.
        frac: (n_atoms, 3) fractional coordinates.
        numbers: (n_atoms,) atomic numbers.
        symprec: tolerance, Å.
        parent: (n_atoms,) sets of equal atoms, see `join`; changed in place.

    Returns:
        (n, 3) fractional translations, zero first.
    """
    shifts = np.zeros((len(frac), 3))
    n_shifts = 1
    species, divisor = rarest_species(numbers)
    if divisor == 1:  # a translation would carry the one odd atom onto another of its kind
        return shifts[:1].copy()
    first = -1
    identity = np.eye(3, dtype=np.int64)
    image, misses = np.empty(len(frac), np.int64), np.empty((len(frac), 3))
    for atom in range(len(frac)):
        if numbers[atom] != species:
            continue
        if first < 0:
            first = atom
            continue
        shift = frac[atom] - frac[first]
        if maps_all(basis, frac, numbers, identity, shift, symprec, image, misses):
            for source in range(len(frac)):
                join(parent, source, image[source])
            shifts[n_shifts] = shift
            n_shifts += 1
    return shifts[:n_shifts].copy()


@compiled
def primitive_lattice(basis: NDArray[np.float64], shifts: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Lattice generated by a cell and its n pure translations; whether they form a group of order n.

    In a group of order n each shift is a whole multiple of 1/n, so that integer elimination is exact.
    """
    n = len(shifts)
    if n == 1:
        return basis, True
    rows = np.zeros((n + 2, 3), np.int64)
    for axis in range(3):
        rows[axis, axis] = n
    for shift in range(1, n):
        for axis in range(3):
            rows[shift + 2, axis] = np.int64(np.rint(n * shifts[shift, axis]))
    _eliminate(rows)
    volume = rows[0, 0] * rows[1, 1] * rows[2, 2]
    if abs(volume) != n * n:
        return basis, False
    return product(rows[:3].astype(np.float64) / n, basis), True


@compiled
def _eliminate(rows: NDArray[np.int64]) -> None:
    """Integer row echelon form, in place (Euclid's algorithm down each column)."""
    for column in range(3):
        for row in range(column + 1, len(rows)):
            while rows[row, column] != 0:
                times = rows[column, column] // rows[row, column]
                for c in range(3):
                    rest = rows[column, c] - times * rows[row, c]
                    rows[column, c] = rows[row, c]
                    rows[row, c] = rest


@compiled
def maps_all(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    rotation: NDArray[np.int64],
    shift: NDArray[np.float64],
    symprec: float,
    image: NDArray[np.int64],
    misses: NDArray[np.float64],
) -> bool:
    """Tell whether an operation carries every atom onto one of its species.

    `shift` comes from one pair of atoms and carries their noise. So atoms are matched within twice the tolerance, the
    shift is moved to the mean miss, and what then remains must lie within the tolerance: the answer depends on no
    choice of the pair.

    Args:
        lattice: (3, 3) lattice vectors in rows, Å.
        frac: (n_atoms, 3) fractional coordinates.
        numbers: (n_atoms,) atomic numbers.
        rotation: (3, 3), multiplies fractional coordinates from the right.
        shift: (3,) fractional translation.
        symprec: tolerance, Å.
        image: (n_atoms,) the atom that each one is carried onto; overwritten.
        misses: (n_atoms, 3) how far it misses that atom, Å; overwritten.

    Returns:
        False as soon as one atom has no image; `image` is then incomplete.
    """
    mean0, mean1, mean2 = 0.0, 0.0, 0.0
    for atom in range(len(frac)):
        x = frac[atom, 0] * rotation[0, 0] + frac[atom, 1] * rotation[1, 0] + frac[atom, 2] * rotation[2, 0] + shift[0]
        y = frac[atom, 0] * rotation[0, 1] + frac[atom, 1] * rotation[1, 1] + frac[atom, 2] * rotation[2, 1] + shift[1]
        z = frac[atom, 0] * rotation[0, 2] + frac[atom, 1] * rotation[1, 2] + frac[atom, 2] * rotation[2, 2] + shift[2]
        image[atom] = _atom_at(lattice, frac, numbers, numbers[atom], x, y, z, 2.0 * symprec, misses[atom])
        if image[atom] < 0:
            return False
        mean0, mean1, mean2 = mean0 + misses[atom, 0], mean1 + misses[atom, 1], mean2 + misses[atom, 2]
    n = len(frac)
    for atom in range(n):
        a, b, c = misses[atom, 0] - mean0 / n, misses[atom, 1] - mean1 / n, misses[atom, 2] - mean2 / n
        if a * a + b * b + c * c > symprec * symprec:
            return False
    return True


@compiled
def _atom_at(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    number: int,
    x: float,
    y: float,
    z: float,
    tolerance: float,
    miss: NDArray[np.float64],
) -> int:
    """The atom of species `number` within `tolerance` of a fractional position, -1 if none; fills `miss` (Å)."""
    for other in range(len(frac)):
        if numbers[other] != number:
            continue
        a, b, c = x - frac[other, 0], y - frac[other, 1], z - frac[other, 2]
        a, b, c = a - np.rint(a), b - np.rint(b), c - np.rint(c)
        squared = 0.0
        for axis in range(3):
            miss[axis] = a * lattice[0, axis] + b * lattice[1, axis] + c * lattice[2, axis]
            squared += miss[axis] * miss[axis]
        if squared <= tolerance * tolerance:
            return other
    return -1


@compiled
def rotated(position: NDArray[np.float64], rotation: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fractional coordinates after the lattice vectors went to the rows of `rotation`."""
    result = np.zeros(3)
    for i in range(3):
        for c in range(3):
            result[c] += position[i] * rotation[i, c]
    return result


@compiled
def rarest_species(numbers: NDArray[np.uint8]) -> tuple[int, int]:
    """The species with the fewest atoms, and the greatest common divisor of all species' counts."""
    counts = np.zeros(256, np.int64)
    for number in numbers:
        counts[number] += 1
    rarest, divisor = -1, 0
    for species in range(256):
        if counts[species] > 0:
            divisor = math.gcd(divisor, counts[species])
            if rarest < 0 or counts[species] < counts[rarest]:
                rarest = species
    return rarest, divisor


@compiled
def root(parent: NDArray[np.int64], atom: int) -> int:
    """The lowest atom of the set that `atom` belongs to."""
    while parent[atom] != atom:
        atom = parent[atom]
    return atom


@compiled
def join(parent: NDArray[np.int64], one: int, other: int) -> None:
    """Unite the sets of two atoms, under the lower index.

    Args:
        parent: (n_atoms,) forest of sets: an atom of the same set, itself for the root; changed in place.
        one: an atom.
        other: an atom.
    """
    one, other = root(parent, one), root(parent, other)
    parent[max(one, other)] = min(one, other)
