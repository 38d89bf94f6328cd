"""Short lattice vectors: the reduced cell in which searches are cheap."""

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled

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
        times = np.rint(dot / _squared(reduced[short]))
        candidate = reduced[long] - times * reduced[short]
        if times != 0.0 and _squared(candidate) < _SHORTER * _squared(reduced[long]):
            reduced[long] = candidate
            transform[long] -= np.int64(times) * transform[short]
            changed = True
    return changed


@compiled
def _subtract_both(reduced: NDArray[np.float64], transform: NDArray[np.int64]) -> bool:
    """Add +-1 times both shorter vectors to the longest; whether it got shorter."""
    for s in (-1, 1):
        for t in (-1, 1):
            candidate = reduced[2] + s * reduced[0] + t * reduced[1]
            if _squared(candidate) < _SHORTER * _squared(reduced[2]):
                reduced[2] = candidate
                transform[2] += s * transform[0] + t * transform[1]
                return True
    return False


@compiled
def _squared(vector: NDArray[np.float64]) -> float:
    return vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]
