"""Which cells have a neighbour graph, and what to say of those that have none."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled

OVERLAP = 0.5
"""Å: atoms closer than this are one atom written twice (pymatgen's tolerance; H-H in H2 is 0.74)."""

MIN_VOLUME_PER_ATOM = 0.1
"""Å³: below this the three lattice vectors lie in one plane."""

LONGEST_VECTOR = 1e4
"""Å: the search shortens any lattice first, but coordinates along longer vectors have lost the digits it needs."""

MAX_ATOMS = 65_535
"""Neighbours are stored as 16-bit positions within a crystal."""

LARGEST = 1e6
"""Å or cells: beyond this, coordinates have lost the digits that tell neighbours apart."""

FINE, EMPTY, TOO_MANY, NOT_FINITE, TOO_LARGE, SKEWED, FLAT, OVERLAPPING = range(8)
REASONS = (
    "",
    "no_atoms",
    "too_many_atoms",
    "cell_not_finite",
    "cell_too_large",
    "lattice_too_skewed",
    "zero_volume",
    "atoms_overlap",
)


@dataclass(frozen=True)
class CellFault:
    """Why one crystal has no graph.

    Attributes:
        row: its place among the crystals that were given.
        reason: short code, such as `atoms_overlap`.
        detail: value, rule, remedy.
    """

    row: int
    reason: str
    detail: str


def fault_of(row: int, problem: int, value: float) -> CellFault:
    """The fault that compiled code found in a row."""
    return CellFault(row, REASONS[problem], explain(problem, value))


@compiled
def cell_problem(lattice: NDArray[np.float64], frac_coords: NDArray[np.float64]) -> tuple[int, float]:
    """What forbids a search in this cell (`FINE` if nothing), and the offending value."""
    n_atoms = len(frac_coords)
    if n_atoms == 0:
        return EMPTY, 0.0
    if n_atoms > MAX_ATOMS:
        return TOO_MANY, float(n_atoms)
    largest = 0.0
    for values in (lattice, frac_coords):
        for row in range(len(values)):
            for c in range(3):
                if not math.isfinite(values[row, c]):
                    return NOT_FINITE, values[row, c]
                largest = max(largest, abs(values[row, c]))
    if largest > LARGEST:
        return TOO_LARGE, largest
    for vector in lattice:
        length = math.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
        if length > LONGEST_VECTOR:
            return SKEWED, length
    volume = abs(determinant(lattice)) / n_atoms
    return (FLAT, volume) if volume < MIN_VOLUME_PER_ATOM else (FINE, 0.0)


@compiled
def overlap_problem(counts: NDArray[np.int64], vectors: NDArray[np.float32]) -> tuple[int, float]:
    """`OVERLAPPING` and the distance, if an atom's nearest neighbour (its first edge) is too near."""
    first = 0
    for count in counts:
        x, y, z = vectors[first, 0], vectors[first, 1], vectors[first, 2]
        distance = math.sqrt(x * x + y * y + z * z)
        if distance < OVERLAP:
            return OVERLAPPING, distance
        first += count
    return FINE, 0.0


def explain(problem: int, value: float) -> str:
    """The rule that a cell breaks, its value, and the remedy."""
    return {
        EMPTY: "the cell holds no atoms; give at least one",
        TOO_MANY: f"the cell has {value:.0f} atoms, at most {MAX_ATOMS} can be stored; give a smaller cell",
        NOT_FINITE: "the lattice or the coordinates hold NaN or infinity; give finite numbers",
        TOO_LARGE: f"a lattice vector or coordinate is {value:.3g}, at most {LARGEST:g} is searched; check the unit",
        FLAT: f"the cell has {value:.3g} Å³ per atom, at least {MIN_VOLUME_PER_ATOM} is needed; check the lattice",
        SKEWED: (
            f"the longest lattice vector has {value:.3g} Å, at most {LONGEST_VECTOR:g} are searched, since coordinates "
            "lose their digits; reduce the cell (Niggli)"
        ),
        OVERLAPPING: f"two atoms are {value:.3f} Å apart, at least {OVERLAP} is needed; remove the duplicate site",
    }[problem]


@compiled
def determinant(m: NDArray[np.float64]) -> float:
    """Of a 3x3 matrix."""
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@compiled
def inverse(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a 3x3 matrix (Cramer's rule: a library call costs more than the arithmetic)."""
    scale = 1.0 / determinant(m)
    result = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b, c, d = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
            result[j, i] = scale * (m[a, c] * m[b, d] - m[a, d] * m[b, c])
    return result


@compiled
def product(rows: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """`rows @ matrix` for (n, 3) rows and a 3x3 matrix."""
    result = np.empty((len(rows), 3))
    for row in range(len(rows)):
        for c in range(3):
            result[row, c] = rows[row, 0] * matrix[0, c] + rows[row, 1] * matrix[1, c] + rows[row, 2] * matrix[2, c]
    return result
