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
