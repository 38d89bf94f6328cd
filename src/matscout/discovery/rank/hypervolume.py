"""Hypervolume: how much of the objective space a set of points dominates, exactly."""

import numpy as np
from numpy.typing import NDArray

from matscout.discovery.rank.pareto import pareto_front

Points = NDArray[np.float64]


def hypervolume(points: Points, reference: NDArray[np.float64]) -> float:
    """Volume of the region that `points` dominate and `reference` bounds; all objectives are minimised.

    While et al., "A fast way of calculating exact hypervolumes" (WFG), IEEE Trans. Evol. Comput. 16, 86
    (2012): the sum over points of the part that no later point dominates. Exact in any dimension; meant
    for fronts of up to some hundreds of points in up to four objectives.

    Args:
        points: (n, k).
        reference: (k,) the worst corner; points that do not beat it everywhere count for nothing.
    """
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    front = np.unique(inside[pareto_front(inside)], axis=0)
    if front.shape[1] == 1:
        return float(reference[0] - front[0, 0])
    if front.shape[1] == 2:
        return _staircase(front, reference)
    return float(sum(_exclusive(point, front[i + 1 :], reference) for i, point in enumerate(front)))


def improvements(new: Points, points: Points, reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) hypervolume that each of `new` (m, k) would add to `points` (n, k), each on its own."""
    inside = points[(points < reference).all(axis=1)]
    front = np.unique(inside[pareto_front(inside)], axis=0) if len(inside) else inside
    return np.array([_exclusive(point, front, reference) for point in new])


def _exclusive(point: NDArray[np.float64], others: Points, reference: NDArray[np.float64]) -> float:
    """What `point` dominates and none of `others` does."""
    if not (point < reference).all() or (others <= point).all(axis=1).any():
        return 0.0
    own = float(np.prod(reference - point))
    limited = np.maximum(others, point)  # the part of each other that lies behind the point
    return own - hypervolume(limited, reference)


def _staircase(front: Points, reference: NDArray[np.float64]) -> float:
    """Two objectives: the area under the stairs; `front` is sorted by the first, so it falls in the second."""
    right = np.append(front[1:, 0], reference[0])
    return float(((right - front[:, 0]) * (reference[1] - front[:, 1])).sum())
