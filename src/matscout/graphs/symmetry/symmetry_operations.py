"""Whether a symmetry operation carries a crystal onto itself."""

import math

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled


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
    """Whether the operation carries every atom onto one of its species; fills `image`.

    `shift` comes from one pair of atoms and carries their noise. So atoms are matched within twice the
    tolerance, the shift is moved to the mean miss, and what then remains must lie within the tolerance:
    the answer depends on no choice of the pair.
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
    """Unite the sets of two atoms, under the lower index."""
    one, other = root(parent, one), root(parent, other)
    parent[max(one, other)] = min(one, other)
