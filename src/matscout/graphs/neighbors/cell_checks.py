"""The limits of `crystal_checks` in compiled code, for the loop that makes graphs, and 3x3 matrices."""

import math

import numpy as np
from numpy.typing import NDArray

from matscout.crystal_checks import (
    LARGEST_NUMBER,
    LONGEST_VECTOR,
    MAX_ATOMS,
    MIN_DISTANCE,
    MIN_VOLUME_PER_ATOM,
    Rejection,
    rejected,
)
from matscout.graphs.compiled import compiled

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


def rejection_of(row: int, problem: int, value: float) -> Rejection:
    """The rejection of a row in which compiled code found a problem.

    Args:
        row: of the crystal in its block.
        problem: position of the code in `REASONS`.
        value: what exceeds or undercuts the limit.

    Returns:
        The rejection.
    """
    return rejected(REASONS[problem], value, row=row)


@compiled
def cell_problem(lattice: NDArray[np.float64], frac_coords: NDArray[np.float64]) -> tuple[int, float]:
    """What forbids a search in this cell (`FINE` if nothing), and the offending value.

    The limits, and their order, are those of `crystal_checks.find_rejection`.
    """
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
    if largest > LARGEST_NUMBER:
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
        if distance < MIN_DISTANCE:
            return OVERLAPPING, distance
        first += count
    return FINE, 0.0


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
