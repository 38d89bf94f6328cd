"""The nearest periodic neighbours of atoms, and their shells, in any cell: skewed, elongated, or with one atom.

Sorted by distance, an atom's edges fall into shells: a new shell begins where the distance jumps by
more than `TIE_TOLERANCE`. Whole shells are kept or dropped, never a part of one, so that a graph does
not depend on the order of atoms, on the cell chosen, or on rounding. Distances are those of the
*stored* float32 vectors, so that the nearest 12 of 24 stored neighbours are exactly the 12 that a
search for 12 would have found.

The cells are 3x3 matrices in compiled code: their products, the limits of `crystal_checks`, and reduced cells, in which
a search is cheap.
"""

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
    """Subtract from each vector the nearest integer multiple of each shorter one; return whether any became shorter."""
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
    """Add +-1 times both shorter vectors to the longest; return whether it became shorter."""
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


_CANDIDATES_PER_NEIGHBOR = 1.5  # atoms expected in the first search ball, per neighbour wanted (fastest measured)
_GROWTH = 1.25  # of the radius when the ball does not show the end of the last shell
_RANGE_SLACK = 1e-9  # images, so that rounding loses no image on the surface of the ball


@compiled
def search(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], centers: NDArray[np.int64], n_neighbors: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The `n_neighbors` nearest periodic neighbours of each centre, and ties at the last of them: whole shells.

    Args:
        lattice: (3, 3) rows are lattice vectors, Å; checked by `cell_problem`, as are the atoms.
        frac_coords: (n_atoms, 3) fractional, any image.
        centers: (n_centers,) atoms to search around.
        n_neighbors: at least so many for each centre.

    Returns:
        Edges of each centre, (n_centers,); the atom that each edge ends at, (n_edges,), centre by centre, sorted by
        distance; and the vectors from centre to the neighbour's image, (n_edges, 3), Å.
    """
    basis, transform = reduce_lattice(lattice)
    wrapped = _wrap(product(frac_coords, inverse(transform.astype(np.float64))))
    gram = _gram_schmidt(basis)
    n_atoms = len(wrapped)
    density = n_atoms / abs(determinant(basis))
    expected = _CANDIDATES_PER_NEIGHBOR * n_neighbors + 4.0
    start = (expected / (4.0 / 3.0 * math.pi * density)) ** (1.0 / 3.0)

    counts = np.empty(len(centers), np.int64)
    neighbors = np.empty(len(centers) * (n_neighbors + 12), np.int64)
    vectors = np.empty((len(neighbors), 3), np.float32)
    found_atoms = np.empty(4 * n_neighbors + 64, np.int64)
    found_vectors = np.empty((len(found_atoms), 3), np.float32)
    n_edges = 0
    for position in range(len(centers)):
        radius = start
        while True:
            n_found = _gather(wrapped, centers[position], basis, gram, radius, found_atoms, found_vectors)
            if n_found > len(found_atoms):
                found_atoms = np.empty(2 * n_found, np.int64)
                found_vectors = np.empty((2 * n_found, 3), np.float32)
                continue
            order, n_kept = _nearest(found_vectors, n_found, n_neighbors, radius)
            if n_kept > 0:
                break
            radius *= _GROWTH
        while n_edges + n_kept > len(neighbors):
            neighbors = np.concatenate((neighbors, np.empty_like(neighbors)))
            vectors = np.concatenate((vectors, np.empty_like(vectors)))
        for rank in range(n_kept):
            neighbors[n_edges + rank] = found_atoms[order[rank]]
            vectors[n_edges + rank] = found_vectors[order[rank]]
        counts[position] = n_kept
        n_edges += n_kept
    return counts, neighbors[:n_edges].copy(), vectors[:n_edges].copy()


@compiled
def _wrap(frac_coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into [0, 1]: an atom a rounding error below 0 may stay at 1, which is the same place."""
    return frac_coords - np.floor(frac_coords)


@compiled
def _gram_schmidt(basis: NDArray[np.float64]) -> tuple[float, float, float, float, float, float]:
    """Lengths of the three orthogonalised rows, then the projections mu_10, mu_20, mu_21."""
    g00, g01, g02, g11, g12, g22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for c in range(3):
        g00 += basis[0, c] * basis[0, c]
        g01 += basis[0, c] * basis[1, c]
        g02 += basis[0, c] * basis[2, c]
        g11 += basis[1, c] * basis[1, c]
        g12 += basis[1, c] * basis[2, c]
        g22 += basis[2, c] * basis[2, c]
    mu10, mu20 = g01 / g00, g02 / g00
    q11 = g11 - mu10 * g01
    mu21 = (g12 - mu10 * g02) / q11
    q22 = g22 - mu20 * g02 - mu21 * mu21 * q11
    return math.sqrt(g00), math.sqrt(q11), math.sqrt(q22), mu10, mu20, mu21


@compiled
def _gather(
    wrapped: NDArray[np.float64],
    center: int,
    basis: NDArray[np.float64],
    gram: tuple[float, float, float, float, float, float],
    radius: float,
    atoms: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> int:
    """Every image within `radius` of `center`: fills the buffers, returns how many there are.

    Fincke and Pohst, Math. Comp. 44, 463 (1985): in the orthogonalised basis
    |v|² = (x0 + mu10 x1 + mu20 x2)² |q0|² + (x1 + mu21 x2)² |q1|² + x2² |q2|², so that each
    coordinate's range follows from the outer ones, exactly and for any skew.
    """
    q0, q1, q2, mu10, mu20, mu21 = gram
    n_found = 0
    for atom in range(len(wrapped)):
        f0 = wrapped[atom, 0] - wrapped[center, 0]
        f1 = wrapped[atom, 1] - wrapped[center, 1]
        f2 = wrapped[atom, 2] - wrapped[center, 2]
        reach2 = radius / q2 + _RANGE_SLACK
        for n2 in range(math.ceil(-reach2 - f2), math.floor(reach2 - f2) + 1):
            x2 = f2 + n2
            left1 = max(0.0, radius * radius - (x2 * q2) ** 2)
            reach1 = math.sqrt(left1) / q1 + _RANGE_SLACK
            middle1 = -mu21 * x2 - f1
            for n1 in range(math.ceil(middle1 - reach1), math.floor(middle1 + reach1) + 1):
                x1 = f1 + n1
                left0 = max(0.0, left1 - ((x1 + mu21 * x2) * q1) ** 2)
                reach0 = math.sqrt(left0) / q0 + _RANGE_SLACK
                middle0 = -mu10 * x1 - mu20 * x2 - f0
                for n0 in range(math.ceil(middle0 - reach0), math.floor(middle0 + reach0) + 1):
                    if atom == center and n0 == 0 and n1 == 0 and n2 == 0:
                        continue
                    if n_found < len(atoms):
                        x0 = f0 + n0
                        atoms[n_found] = atom
                        for c in range(3):
                            vectors[n_found, c] = x0 * basis[0, c] + x1 * basis[1, c] + x2 * basis[2, c]
                    n_found += 1
    return n_found


@compiled
def _nearest(
    vectors: NDArray[np.float32], n_found: int, n_neighbors: int, radius: float
) -> tuple[NDArray[np.int64], int]:
    """Order the found edges by length, and count those that are kept; 0 = the ball is too small to decide.

    Equal lengths stay in the order of search: by atom, then by image.
    """
    lengths = np.empty(n_found, np.float32)
    for edge in range(n_found):
        lengths[edge] = edge_length(vectors, edge)
    order = np.argsort(lengths, kind="mergesort")
    if n_found < n_neighbors:
        return order, 0
    ordered = vectors[order]
    n_kept = count_kept(ordered, 0, n_found, n_neighbors, np.inf)
    ends_inside = n_kept < n_found or radius - lengths[order[n_found - 1]] > 2.0 * TIE_TOLERANCE
    return order, n_kept if ends_inside else 0


TIE_TOLERANCE = 1e-3
"""Å. Ties are spoiled by printed digits (in Materials Project cells by up to 3e-5 Å) and by up to the symmetry
tolerance where atoms are merged; of the gaps between genuine shells there only one in fifty is as small as this."""


@compiled
def edge_length(vectors: NDArray[np.float32], edge: int) -> np.float32:
    """Length of one stored edge, Å: summed in float64, rounded once."""
    x, y, z = np.float64(vectors[edge, 0]), np.float64(vectors[edge, 1]), np.float64(vectors[edge, 2])
    return np.float32(math.sqrt(x * x + y * y + z * z))


@compiled
def count_kept(vectors: NDArray[np.float32], first: int, last: int, n_neighbors: int, cutoff: float) -> int:
    """Count the nearest edges of one centre that are kept.

    Shells are taken in turn until `n_neighbors` edges are there or the next shell begins beyond `cutoff`; the nearest
    shell is always taken.

    Args:
        vectors: (n_edges, 3) of all centres, Å.
        first: the centre's shortest edge; its edges are sorted by length.
        last: the edge after the centre's longest.
        n_neighbors: wanted number of edges; ties at the last shell are kept.
        cutoff: Å.

    Returns:
        Number of edges from `first` on.
    """
    if first == last:
        return 0
    previous = edge_length(vectors, first)
    for edge in range(first + 1, last):
        length = edge_length(vectors, edge)
        if length - previous > TIE_TOLERANCE and (edge - first >= n_neighbors or length > cutoff):
            return edge - first
        previous = length
    return last - first
