"""Shells of neighbours: which nearest edges of an atom belong together, decided in one place.

Sorted by distance, an atom's edges fall into shells: a new shell begins where the distance jumps by
more than `TIE_TOLERANCE`. Whole shells are kept or dropped, never a part of one, so that a graph does
not depend on the order of atoms, on the cell chosen, or on rounding. Distances are those of the
*stored* float32 vectors, so that the nearest 12 of 24 stored neighbours are exactly the 12 that a
search for 12 would have found.
"""

import math

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled

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
    """How many of the edges `first` to `last` (sorted by length, one centre) are kept.

    Shells are taken in turn until `n_neighbors` edges are there or the next shell begins beyond
    `cutoff` (Å); the nearest shell is always taken.
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
