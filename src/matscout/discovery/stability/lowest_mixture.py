"""The lowest energy of a mixture of known phases: a small linear programme, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

TOLERANCE = 1e-10  # eV/atom: reduced costs above its negative end the search
BLAND_AFTER = 200  # pivots after which a rule that cannot cycle takes over


@njit(cache=True)
def lowest_mixture(
    fractions: NDArray[np.float64], energies: NDArray[np.float64], aim: NDArray[np.float64]
) -> tuple[float, NDArray[np.int64], NDArray[np.float64]]:
    """Minimise sum_i x_i e_i with sum_i x_i fractions_i = aim and x >= 0, by the primal simplex method.

    The first n_elements entries must be the pure elements in order: they are the first basis. Ties go
    to the smaller index, so that the answer is deterministic. With atomic fractions, x_i is the share
    of atoms in phase i and the minimum is the convex hull's energy at `aim`.

    Args:
        fractions: (n_entries, n_elements) atomic fractions, rows sum to one.
        energies: (n_entries,) eV/atom.
        aim: (n_elements,) atomic fractions.

    Returns:
        The minimum, eV/atom; (n_elements,) entries of the optimal basis; (n_elements,) their shares.
    """
    n_elements = len(aim)
    basis = np.arange(n_elements)
    inverse = np.eye(n_elements)
    shares = aim.copy()
    n_pivots = 0
    entering = _entering(fractions, energies, energies[basis] @ inverse, n_pivots)
    while entering >= 0:
        direction = inverse @ fractions[entering]
        leaving = _leaving(direction, shares, basis)
        step = shares[leaving] / direction[leaving]
        shares -= step * direction
        shares[leaving] = step
        basis[leaving] = entering
        pivot = inverse[leaving] / direction[leaving]
        for row in range(n_elements):
            inverse[row] = pivot if row == leaving else inverse[row] - direction[row] * pivot
        n_pivots += 1
        entering = _entering(fractions, energies, energies[basis] @ inverse, n_pivots)
    shares = np.maximum(shares, 0.0)
    return (shares * energies[basis]).sum(), basis, shares


@njit(cache=True)
def _entering(
    fractions: NDArray[np.float64], energies: NDArray[np.float64], prices: NDArray[np.float64], n_pivots: int
) -> int:
    """The entry with the most negative reduced cost (late: the first negative one); -1 at the optimum."""
    costs = energies - fractions @ prices
    if n_pivots < BLAND_AFTER:
        entry = int(np.argmin(costs))
        return entry if costs[entry] < -TOLERANCE else -1
    for entry in range(len(costs)):
        if costs[entry] < -TOLERANCE:
            return entry
    return -1


@njit(cache=True)
def _leaving(direction: NDArray[np.float64], shares: NDArray[np.float64], basis: NDArray[np.int64]) -> int:
    """The row whose share reaches zero first; of equal ones the one with the smallest entry."""
    leaving, step = -1, np.inf
    for row in range(len(shares)):
        if direction[row] > TOLERANCE:
            ratio = shares[row] / direction[row]
            if ratio < step or (ratio == step and basis[row] < basis[leaving]):
                leaving, step = row, ratio
    return leaving
