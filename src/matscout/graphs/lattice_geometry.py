"""Cells in compiled code: 3x3 matrices, the limits of `crystal_checks`, and reduced cells for cheap searches."""

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


_MAX_SWEEPS = 1000  # a sweep shortens a vector or ends; real cells need fewer than ten
_SHORTER = 1 - 1e-12  # a vector must become shorter by more than rounding, or sweeps never end


@compiled
def reduce_lattice(lattice: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Shorten lattice vectors by integer combinations until none helps (Minkowski reduction).

    The greedy algorithm of Semaev, "A 3-dimensional lattice reduction algorithm", CaLC 2001: a vector
    is replaced by its shortest sum with 0 or +-1 times each other one, until no replacement is shorter.

    Args:
        lattice: (3, 3) float64, rows are vectors, Å; any handedness, any skew.

    Returns:
        (3, 3) float64 reduced rows by ascending length, and the (3, 3) integers `T` with
        `reduced = T @ lattice`.
    """
    reduced = lattice.copy()
    transform = np.eye(3, dtype=np.int64)
    for _ in range(_MAX_SWEEPS):
        _sort_by_length(reduced, transform)
        if not (_subtract_pairs(reduced, transform) or _subtract_both(reduced, transform)):
            break
    return reduced, transform


@compiled
def _sort_by_length(reduced: NDArray[np.float64], transform: NDArray[np.int64]) -> None:
    """Order rows by ascending length, in place."""
    for a, b in ((0, 1), (1, 2), (0, 1)):
        if _squared(reduced[b]) < _squared(reduced[a]):
            for c in range(3):
                reduced[a, c], reduced[b, c] = reduced[b, c], reduced[a, c]
                transform[a, c], transform[b, c] = transform[b, c], transform[a, c]


@compiled
def _subtract_pairs(reduced: NDArray[np.float64], transform: NDArray[np.int64]) -> bool:
    """Take from each vector the nearest whole number of each shorter one; whether any got shorter."""
    changed = False
    for long, short in ((1, 0), (2, 0), (2, 1)):
        dot = 0.0
        for c in range(3):
            dot += reduced[long, c] * reduced[short, c]
        times = int(np.rint(dot / _squared(reduced[short])))
        if times != 0 and _try(reduced, transform, long, -times, short, 0, short):
            changed = True
    return changed


@compiled
def _subtract_both(reduced: NDArray[np.float64], transform: NDArray[np.int64]) -> bool:
    """Add +-1 times both shorter vectors to the longest; whether it got shorter."""
    for s in (-1, 1):
        for t in (-1, 1):
            if _try(reduced, transform, 2, s, 0, t, 1):
                return True
    return False


@compiled
def _try(
    reduced: NDArray[np.float64], transform: NDArray[np.int64], row: int, times: int, one: int, again: int, other: int
) -> bool:
    """Add `times` row `one` and `again` row `other` to `row` if that makes it shorter; whether it did."""
    before, after = 0.0, 0.0
    for c in range(3):
        before += reduced[row, c] ** 2
        after += (reduced[row, c] + times * reduced[one, c] + again * reduced[other, c]) ** 2
    if after >= _SHORTER * before:
        return False
    for c in range(3):
        reduced[row, c] += times * reduced[one, c] + again * reduced[other, c]
        transform[row, c] += times * transform[one, c] + again * transform[other, c]
    return True


@compiled
def _squared(vector: NDArray[np.float64]) -> float:
    return vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]
